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


def with_seeds(argv: Sequence[str]) -> list[str]:
    """Return a command line in which ``seeds=3`` is the sweep ``-m seed=0,1,2``.

    Raises:
        ConfigError: it is no number of seeds, or a seed is named as well.
    """
    told = [word for word in argv if word.startswith("seeds=")]
    if not told:
        return list(argv)
    others = [word for word in argv if word not in told]
    number = told[-1].partition("=")[2]
    if len(told) > 1 or not number.isdecimal() or not 1 <= int(number) <= 100:
        raise ConfigError(f"{' '.join(told)}: expected one number of seeds, 1 to 100; seeds=3 is seed=0,1,2")
    if named := [word for word in others if word.startswith(("seed=", "run_name="))]:
        raise ConfigError(
            f"{told[0]} {named[0]}: seeds=3 is seed=0,1,2, each in a run of its own; leave one of them out"
        )
    flag = [] if {"-m", "--multirun"} & set(others) else ["-m"]
    return [*flag, *others, "seed=" + ",".join(map(str, range(int(number))))]


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
