"""A stored configuration of an earlier version, brought to the shape that today's code reads.

Options were stored by name alone; their classes are looked up in ``conf/<group>/<name>.yaml``. What is written here is
read by nobody else: nothing else in the code knows how a configuration looked before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from zoomldm.config import CONF
from zoomldm.errors import ConfigError, near_match

GROUPS = ("cond", "curriculum", "encoder", "features", "tracking")
"""Groups whose option was once a name and its arguments, without the class."""


def upgraded(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration as today's code reads it; one that is of today comes back equal.

    Raises:
        ConfigError: it names an option that does not exist any more.
    """
    config = dict(config)
    _upgrade_conditioner(config)
    for group in GROUPS:
        section = config.get(group)
        if isinstance(section, Mapping) and "name" in section and "_target_" not in section:
            stored = {key: value for key, value in section.items() if key != "also"}  # names, which are options today
            config[group] = option_of_today(group, section["name"], stored)
    _upgrade_diffusion(config)
    _upgrade_model(config)
    return config


def option_of_today(group: str, name: str, stored: Mapping[str, Any] = {}) -> dict[str, Any]:  # noqa: B006 - not changed
    """Return an option as its YAML has it, with stored values in the place of the YAML's.

    Raises:
        ConfigError: there is no such option.
    """
    path = CONF / group / f"{name}.yaml"
    if not path.is_file():
        known = sorted(one.stem for one in path.parent.glob("*.yaml"))
        raise ConfigError(
            f"{group}={name}: a stored configuration names it, and there is no such option;{near_match(name, known)}"
        )
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    today: dict[str, Any] = {}
    for entry in content.pop("defaults", ()):
        if entry == "_self_":
            today |= content
        else:
            _place(today, group, entry)
    return {key: stored.get(key, value) for key, value in (today or content).items()}


def _place(section: dict[str, Any], group: str, entry: str | Mapping[str, str]) -> None:
    """Put another option into a section, where an entry of a defaults list says: ``stats@also.stats``."""
    if isinstance(entry, Mapping):
        ((where, name),) = entry.items()
        group, _, package = where.lstrip("/").partition("@")
    else:
        name, _, package = entry.partition("@")
    for key in package.split(".") if package else ():
        section = section.setdefault(key, {})
    section |= option_of_today(group, name)


def _upgrade_conditioner(config: dict[str, Any]) -> None:
    """The sizes of tokens, of which the position embedding is one, became facts of the model."""
    cond = config.get("cond")
    if not cond or "sizes" not in cond:
        return
    cond = {key: value for key, value in cond.items() if key != "sizes"}
    of_model = (config["cond"]["sizes"] or {}).get("position_embedding", False)
    if cond["name"] != "vit" and cond.get("position_embedding") == of_model:
        cond["position_embedding"] = None
    config["cond"] = cond


def _upgrade_diffusion(config: dict[str, Any]) -> None:
    """The schedule and the solver became groups; each kind of model had its own, and DDIM alone."""
    diffusion, model = config.get("diffusion"), config.get("model") or {}
    if not diffusion or "schedule" in config:
        return
    official = model.get("arch") == "dit"
    if model.get("kind") == "edm":
        schedule = "squared_cosine" if official else "linear"
    else:
        schedule = "scaled_linear"
    config["schedule"] = option_of_today("schedule", schedule, diffusion)
    config["solver"] = option_of_today("solver", "ddim_even" if official else "ddim")
    config["diffusion"] = {"dropout_p": diffusion["dropout_p"]}


def _upgrade_model(config: dict[str, Any]) -> None:
    """A model was told by its kind, and its network by a word."""
    model = dict(config.get("model") or {})
    if "kind" not in model:
        return
    kind, arch, start = model.pop("kind"), model.pop("arch", None), model.pop("start", None)
    today = _model_of_today(kind)
    model["_target_"] = today["_target_"]
    if "network" in today:
        model["network"] = _model_of_today("edm_dit")["network"] if arch == "dit" else today["network"]
        model.pop("tokens", None)
    if start == "linear":
        model["network"] = _model_of_today("autoencoder_tiny")["network"]
    if "loss" in model:
        model["loss"] = {"_target_": today["loss"]["_target_"], **model["loss"]}
    config["model"] = model


def _model_of_today(name: str) -> dict[str, Any]:
    return yaml.safe_load((CONF / "model" / f"{name}.yaml").read_text(encoding="utf-8"))["model"]
