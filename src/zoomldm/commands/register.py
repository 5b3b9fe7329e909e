"""The schemas of all entries, as Hydra and OmegaConf want them."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields, is_dataclass, make_dataclass
from functools import cache
from typing import get_args, get_type_hints

import omegaconf

from zoomldm.commands.schemas import ENTRIES, Train


@cache
def register() -> None:
    """Make the schemas known to Hydra, and ``${seeded:…}``, which is how the name of a run of that seed ends."""
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("seeded", lambda seed: f"-seed={seed}" if seed else "", replace=True)
    for name, entry in ENTRIES.items():
        declared = _with_from(_open(entry)) if entry is Train else _open(entry)
        ConfigStore.instance().store(name=f"{name}_schema", node=declared, provider="zoomldm")


def _with_from(kind: type) -> type:
    """Add the key ``from``, which no attribute in Python can be called: nothing that uses the name is generated."""
    body = {"__annotations__": {"from": str | None}, "from": omegaconf.MISSING}
    return dataclass(init=False, repr=False, eq=False)(type(kind.__name__, (kind,), body))


def _open(kind: type) -> type:
    """Return a dataclass of the same fields that may be changed: OmegaConf makes a frozen one read-only."""
    hints = get_type_hints(kind)
    declared = []
    for one in fields(kind):
        hint, default = hints[one.name], {"default": one.default, "default_factory": one.default_factory}
        if hint is float:
            hint = int | float  # a whole number stays one: hashes of settings are of what is written
        if is_dataclass(hint):
            hint = _open(hint)
            default = {"default_factory": hint}
        elif optional := [one for one in get_args(hint) if is_dataclass(one)]:
            hint = _open(optional[0]) | None
        elif one.default is MISSING and one.default_factory is MISSING:
            default = {"default": omegaconf.MISSING}
        declared.append((one.name, hint, field(**default)))
    return make_dataclass(kind.__name__, declared)
