"""What was typed and would have no effect is refused, and what no class takes. Imports nothing heavy by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoomldm.commands.job import allowed, plain
from zoomldm.commands.schemas import ENTRIES, DataSet
from zoomldm.commands.unread import UNREAD
from zoomldm.config import Option
from zoomldm.data.manifest import MANIFEST_NAME, Manifest
from zoomldm.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig

OF_A_DATA_SET = ("name", "root", "slides", "demo_slides")
"""Keys of ``data`` that say which data set is meant; the others say how it is prepared."""


def check_effect(entry: str, cfg: DictConfig, words: Sequence[str], *, is_sweep: bool) -> None:
    """Refuse overrides that the entry doesn't look at under what was chosen.

    Args:
        entry: the name of its primary configuration.
        words: the job's overrides as typed.

    Raises:
        ConfigError: each of them, with the reason.
    """
    reasons = dict(UNREAD[entry](cfg, is_sweep)) if entry in UNREAD else {}
    prepares = entry == "prepare" or (entry == "verify" and cfg.repair)
    faults = []
    for word in words:
        key = word.partition("=")[0].lstrip("+~")
        if reason := next((reasons[name] for name in _with_sections(key) if name in reasons), None):
            faults.append(f"{word}: {reason}; leave it out")
        elif key.partition(".")[0] in ("data", "tissue") and not prepares:
            faults += _unlike_the_data_set(cfg, word, key)
    if faults:
        raise ConfigError("\n".join(faults))


def _with_sections(key: str) -> Iterator[str]:
    """Yield a key, and the sections that it lies in, up to the first: ``a.b``, ``a.*``, ``a``."""
    yield key
    while "." in key:
        key = key.rpartition(".")[0]
        yield from (f"{key}.*", key)


def _unlike_the_data_set(cfg: DictConfig, word: str, key: str) -> Iterator[str]:
    """Say where a key that preparation reads differs from what the data set was prepared with."""
    group, _, name = key.partition(".")
    if group == "data" and (not name or name.partition(".")[0] in OF_A_DATA_SET):
        return
    root = Path(cfg.data.root) if cfg.data else None
    if root is None or not (root / MANIFEST_NAME).is_file():
        yield f"{word}: data_prep/prepare.py alone looks at it, and a prepared data set keeps it; give it there"
        return
    prepared = Manifest.load(root).config
    if group == "tissue":
        before, now = prepared.get("tissue") or {}, _arguments(cfg)
        before = {one: before.get(one) for one in now}
    else:
        before, now = _selected(prepared, name), _selected(plain(cfg.data), name)
    if _json(before) != _json(now):
        yield f"{word}: {root} was prepared with {_json(before)}; prepare it again or leave it out"


def _arguments(cfg: DictConfig) -> dict[str, Any]:
    return Option("tissue", plain(cfg.tissue)).arguments


def _selected(values: Any, name: str) -> Any:
    for part in name.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return values


def _json(value: Any) -> str:
    return json.dumps(json.loads(json.dumps(value)), sort_keys=True)


PREPARATIONS = ("tissue", "reader", "encoder")
"""Options of preparation: their sections come along with a data set, and their classes are not asked for."""


def check_options(entry: str, cfg: DictConfig) -> None:
    """Ask every option's class whether it takes the arguments that its section has; this imports the classes.

    What prepares data makes its options before the first slide, and asks them so itself.

    Raises:
        ConfigError: a class that isn't there or isn't allowed, or an argument that it doesn't take.
    """
    from omegaconf import OmegaConf

    if issubclass(ENTRIES[entry], DataSet):
        return
    for path, section in _sections(OmegaConf.to_container(cfg, resolve=False)):
        if path.partition(".")[0] not in PREPARATIONS:
            Option(path, section, allowed(cfg)).check()


def _sections(values: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the sections that name a class, those within others too."""
    for key, value in values.items() if isinstance(values, dict) else ():
        where = f"{path}.{key}" if path else str(key)
        if isinstance(value, dict):
            if "_target_" in value:
                yield where, {name: one for name, one in value.items() if (key, name) != ("features", "also")}
            yield from _sections(value, where)
