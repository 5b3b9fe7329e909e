"""What was typed and would have no effect is refused, and what no class takes. Imports nothing heavy by itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoomldm.commands.check import stage_in
from zoomldm.commands.job import allowed, plain
from zoomldm.commands.schemas import ENTRIES, DataSet
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
    """Yield a key, and the sections that it lies in, up to the first."""
    yield key
    while "." in key:
        key = key.rpartition(".")[0]
        yield key


def _unread_by_preparation(cfg: DictConfig, is_sweep: bool) -> Iterator[tuple[str, str]]:
    yield "features", "preparation judges nothing, so it has no effect (src/evaluate.py does)"
    if cfg.plan:
        yield "add", "plan=true says what a preparation makes of the slides, so it has no effect"
    packing = ("drop_images", "max_failed")
    if cfg.add:
        yield from dict.fromkeys(("part", *packing), "add=grid packs nothing, so it has no effect").items()
    elif cfg.part:
        reason = "part= packs nothing, so it has no effect; the command without part= takes it"
        yield from dict.fromkeys(packing, reason).items()
    if cfg.executor == "serial":
        reason = "executor=serial has no processes of its own, so it has no effect"
        yield from dict.fromkeys(("workers", "encoders", "timeout_s"), reason).items()
    if cfg.slides:
        yield "data.demo_slides", f"slides={cfg.slides} are prepared and none are drawn, so it has no effect"


def _unread_by_latents(cfg: DictConfig, is_sweep: bool) -> Iterator[tuple[str, str]]:
    reason = "latents are made of patches by the autoencoder alone, so it has no effect"
    yield from dict.fromkeys(("encoder", "features"), reason).items()
    if cfg.autoencoder.weights:
        yield "autoencoder.run", "autoencoder.weights is taken, so it has no effect"


def _unread_by_verification(cfg: DictConfig, is_sweep: bool) -> Iterator[tuple[str, str]]:
    yield "features", "verification judges nothing, so it has no effect (src/evaluate.py does)"
    if not cfg.repair:
        reason = "repair=true alone looks at it, so it has no effect"
        yield from dict.fromkeys(("encoder", "reader", "slides", "slide", "split"), reason).items()


def _unread_by_training(cfg: DictConfig, is_sweep: bool) -> Iterator[tuple[str, str]]:
    stage, model = stage_in(cfg), f"model={cfg.model.name}"
    if "cond" not in {one.name for one in fields(stage)}:
        yield from dict.fromkeys(("cond", "encoder"), f"{model} has no condition, so it has no effect").items()
    if cfg.training.name == "single" and cfg.training.match != "samples":
        yield "curriculum", "training=single sees one magnification alone, so it has no effect"
    after = is_sweep if cfg.evaluation.after_training is None else cfg.evaluation.after_training
    if stage.judged("") is None:
        keys = ("features", "rows", "metrics", "evaluation")
        yield from dict.fromkeys(keys, f"{model} is not evaluated, so it has no effect").items()
    elif not after:
        reason = "nothing is evaluated after this training (evaluation.after_training=true would), so it has no effect"
        yield from dict.fromkeys(("rows", "metrics", "evaluation.num_in_sweep"), reason).items()


def _unread_by_sampling(cfg: DictConfig, is_sweep: bool) -> Iterator[tuple[str, str]]:
    yield "encoder", "conditions are read from the data set, so it has no effect"
    yield "features", "sampling judges nothing, so it has no effect (src/evaluate.py does)"
    if cfg.conditions == "generated":
        yield "split", "conditions=generated are of no split, so it has no effect"
    else:
        reason = "conditions=oracle are those of real patches, so it has no effect (conditions=generated)"
        yield from dict.fromkeys(("edm", "edm_weights"), reason).items()


UNREAD: dict[str, Callable[[DictConfig, bool], Iterator[tuple[str, str]]]] = {
    "prepare": _unread_by_preparation,
    "latents": _unread_by_latents,
    "verify": _unread_by_verification,
    "train": _unread_by_training,
    "sample": _unread_by_sampling,
}
"""By entry, what gives each key or section that is not looked at, and why."""


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
        if path not in PREPARATIONS:
            Option(path, section, allowed(cfg)).check()


def _sections(values: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the sections that name a class, those within others too."""
    for key, value in values.items() if isinstance(values, dict) else ():
        where = f"{path}.{key}" if path else str(key)
        if isinstance(value, dict):
            if "_target_" in value:
                yield where, {name: one for name, one in value.items() if (key, name) != ("features", "also")}
            yield from _sections(value, where)
