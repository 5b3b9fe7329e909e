"""What must be there before a training run starts: all faults in one message, before anything heavy is imported."""

from pathlib import Path
from typing import Any

from zoomldm.build import option_of
from zoomldm.data.manifest import MANIFEST_NAME, Manifest
from zoomldm.errors import ConfigError, UserError
from zoomldm.ladder import Ladder


def check_train(cfg: Any) -> None:
    """Refuse a configuration that makes no sense or whose files are missing.

    Raises:
        ConfigError: every fault found, one a line.
    """
    senseless = combination_faults(cfg)
    if senseless:
        raise ConfigError(_message(senseless))
    faults = [fault for part in (_missing_keys, _data_faults, _file_faults) for fault in part(cfg)]
    if faults:
        raise ConfigError(_message(faults))


def combination_faults(cfg: Any) -> list[str]:
    """Return what contradicts itself in a configuration, whatever files there are."""
    from omegaconf import OmegaConf

    faults = []
    ladder = Ladder(**OmegaConf.to_container(cfg.data.ladder))
    if cfg.model.patch_px != ladder.patch_px:
        faults.append(
            f"model={cfg.model.name} is made for patches of {cfg.model.patch_px} px, data={cfg.data.name} has "
            f"{ladder.patch_px} px; choose a model of that size (…_tiny for the demo) or set model.patch_px and "
            "model.latent_px"
        )
    if cfg.training.name == "single":
        if OmegaConf.is_missing(cfg.training, "magnification"):
            faults.append(
                "training=single needs a magnification: training.magnification=0.3125 (one of "
                + ", ".join(f"{m:g}" for m in ladder.magnifications)
                + ")"
            )
        else:
            try:
                ladder.rung_of(cfg.training.magnification)
            except UserError as error:
                faults.append(f"training.{error}")
    if cfg.model.kind == "autoencoder":
        faults += [
            f"{group}={cfg[group].name}: model={cfg.model.name} diffuses nothing, so it has no effect; leave it out"
            for group in ("schedule", "solver")
            if cfg.get(group)
        ]
    if cfg.model.kind == "edm" and not _reads_grids(cfg):
        faults.append(
            f"model={cfg.model.name} cond={cfg.cond.name}: an embedding diffusion model learns tokens made from "
            f"embeddings, and cond={cfg.cond.name} makes none; use film, cnn, pool or vit"
        )
    if cfg.features.name == cfg.encoder.name and cfg.model.kind == "zoomldm" and cfg.features.name != "stats":
        faults.append(f"features={cfg.features.name} judges with the encoder that conditions the model; use another")
    return faults


def _reads_grids(cfg: Any) -> bool:
    from zoomldm.cond.base import Conditioner  # torch: imported only for models that stand on a conditioner

    return option_of(cfg, "cond").target(Conditioner).uses_grid


def _missing_keys(cfg: Any) -> list[str]:
    from omegaconf import OmegaConf

    meaning = {
        "autoencoder.weights": "the published VQ-f4 checkpoint (docs/weights.md), or null for the one trained here",
        "unet.init": "the published ImageNet U-Net cin256-v2 (docs/weights.md), or null to train from scratch",
        "zoomldm.run": "the run whose tokens are learnt",
    }
    return [
        f"{key} is not set: give {meaning.get(key, 'a value')}: {key}=PATH"
        + (" or null" if "null" in meaning.get(key, "") else "")
        for key in sorted(OmegaConf.missing_keys(cfg))
        if not key.startswith(("hydra", "training."))
    ]


def _data_faults(cfg: Any) -> list[str]:
    root = Path(cfg.data.root)
    if not (root / MANIFEST_NAME).is_file():
        if cfg.data.name == "demo":
            return []  # made on the way
        return [
            f"no shards in {root} (data.root says where they lie; there is no {MANIFEST_NAME}): "
            "make them with "
            f"`python data_prep/prepare.py data={cfg.data.name} slides=FOLDER encoder={cfg.encoder.name}`"
        ]
    try:
        manifest = Manifest.load(root)
        if cfg.model.kind != "autoencoder":
            manifest.check_encoder(cfg.encoder.name)
    except UserError as error:
        return [str(error)]
    if cfg.training.name == "single":
        rung = manifest.ladder.rung_of(cfg.training.magnification)
        if rung.magnification not in manifest.magnifications:
            have = ", ".join(f"{m:g}" for m in manifest.magnifications)
            wanted = f"training.magnification={cfg.training.magnification}"
            return [f"{wanted}: {root} has no training samples there (it has {have})"]
    return []


def _file_faults(cfg: Any) -> list[str]:
    from omegaconf import OmegaConf

    faults = []
    for key, what in (("unet.init", "a published U-Net"), ("autoencoder.weights", "a published VQ-f4")):
        path = OmegaConf.select(cfg, key, throw_on_missing=False)
        if path and not Path(path).expanduser().exists():
            faults.append(
                f"{key}={path}: no such file ({what}); docs/weights.md says where it is published and where it goes"
            )
    if cfg.model.kind == "zoomldm" and cfg.features.name == "inception":
        from zoomldm.features.inception import find_weights

        try:
            find_weights(cfg.features.weights)
        except UserError as error:
            faults.append(str(error))
    return faults


def _message(faults: list[str]) -> str:
    if len(faults) == 1:
        return faults[0]
    return "\n".join([f"{len(faults)} things are missing or wrong:", *(f"  - {fault}" for fault in faults)])
