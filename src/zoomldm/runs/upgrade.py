"""A stored configuration of an earlier version, brought to the shape that today's code reads.

Options were stored by name alone, or without keys that came later; ``conf/<group>/<name>.yaml`` has their classes and
what is missing. What is written here is read by nobody else: nothing else in the code knows how a configuration looked
before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from zoomldm.config import CONF, section_of

GROUPS = ("cond", "curriculum", "encoder", "features", "tracking", "schedule", "prediction", "solver")
"""Groups of options; the first five were once a name and arguments, without the class."""

FEWER_TERMS = {"perceptual": None, "adversarial": None}
"""Terms of an autoencoder's loss that there were not."""

FEWER_INPUTS = {"parent": None, "init_run": None}
"""What no ZoomLDM was told of, or started from."""


def upgraded(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration as today's code reads it; one that is of today comes back equal.

    Raises:
        ConfigError: it names an option that does not exist any more.
    """
    config = dict(config)
    _upgrade_conditioner(config)
    for group in GROUPS:
        section = config.get(group)
        if isinstance(section, Mapping) and "name" in section:
            config[group] = option_of_today(group, section)
    _upgrade_diffusion(config)
    before = "eps" if config.get("unet") else "x0" if config.get("zoomldm") else None
    if before and not config.get("prediction"):
        config["prediction"] = section_of("prediction", before)
    if config.get("sampling"):
        config["sampling"] = {"guidance_interval": None, **config["sampling"]}
    _upgrade_model(config)
    _upgrade_autoencoder(config)
    if config.get("unet") and config.get("model"):
        config["model"] = {**FEWER_INPUTS, **config["model"]}
    return config


def option_of_today(group: str, stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored option's section with the class and the keys that it lacks, as its YAML has them.

    Raises:
        ConfigError: it does not name its class, and there is no such option any more.
    """
    name = stored["name"]
    if "_target_" not in stored:
        values = {key: value for key, value in stored.items() if key != "also"}  # names, which are options today
        return {key: values.get(key, value) for key, value in section_of(group, name).items()}
    is_ours = (CONF / group / f"{name}.yaml").is_file()
    return _completed(section_of(group, name) if is_ours else {}, stored)


def _completed(today: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored option with the keys that it lacks, where today's is of the same class."""
    if today.get("_target_") != stored.get("_target_"):
        return dict(stored)
    nested = [key for key in today.keys() & stored if _is_option(today[key]) and _is_option(stored[key])]
    return {**today, **stored, **{key: _completed(today[key], stored[key]) for key in nested}}


def _is_option(section: Any) -> bool:
    return isinstance(section, Mapping) and "_target_" in section


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
    config["schedule"] = option_of_today("schedule", {"name": schedule, **diffusion})
    config["solver"] = section_of("solver", "ddim_even" if official else "ddim")
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
        model["network"] = _model_of_today("autoencoder_vq_tiny")["network"]
    if "loss" in model:
        model["loss"] = {**today["loss"], **FEWER_TERMS, **model["loss"]}
    config["model"] = model


def _upgrade_autoencoder(config: dict[str, Any]) -> None:
    """The class with a codebook had the name of what is now its base, and there were no further terms of the loss."""
    model = config.get("model") or {}
    if "loss" not in model:
        return
    network = model["network"]
    if network["_target_"] == "zoomldm.model.autoencoder.Autoencoder":
        network = {**network, "_target_": _model_of_today("autoencoder")["network"]["_target_"]}
    loss = {**FEWER_TERMS, **model["loss"]}
    config["model"] = {**model, "network": network, "loss": loss}


def _model_of_today(name: str) -> dict[str, Any]:
    return yaml.safe_load((CONF / "model" / f"{name}.yaml").read_text(encoding="utf-8"))["model"]
