"""Hydra's flags (-m, --cfg, --config-dir …), anywhere among the overrides. Nothing here imports torch."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from zoomldm.errors import ConfigError


def flags_of(argv: Sequence[str]) -> argparse.Namespace:
    """Read a command line as Hydra does: its flags, and the words that are left as ``overrides``.

    Raises:
        ConfigError: an unknown flag, flags that contradict each other, or a folder of --config-dir that is none.
    """
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    flags = parser.parse_intermixed_args(list(argv))
    if flags.cfg and flags.multirun:
        raise ConfigError("--cfg shows one job, -m is a sweep of several: leave out -m and give one value of each")
    if flags.config_dir and not Path(flags.config_dir).is_dir():
        raise ConfigError(f"--config-dir {flags.config_dir}: no such folder; it holds groups as conf/ does (cond/…)")
    return flags


def flags_first(argv: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """Return a command line with its overrides last, where Hydra's own main wants them."""
    left, flags = list(overrides), []
    for word in argv:
        if left and word == left[0]:
            left.pop(0)
        else:
            flags.append(word)
    return [*flags, *overrides]


def _refuse(message: str) -> NoReturn:
    raise ConfigError(f"{message}; an override is key=value, and --hydra-help lists the flags")
