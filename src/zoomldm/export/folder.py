"""A trained run as a folder for users of diffusers: weights and sizes of every part, and a model card.

Nothing that names a slide, a patient or a place on this machine leaves with it: the card is written from counts and
distances alone, and every file is searched for such names before the folder gets its name.
"""

from __future__ import annotations

import json
import platform
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoomldm import build
from zoomldm.commands.evaluation_check import find_edm
from zoomldm.errors import ConfigError, UserError
from zoomldm.evaluation.record import stored_evaluations
from zoomldm.files import sha256_of, write_atomically
from zoomldm.runs.run import Run, find_run
from zoomldm.stages.loaded import load_autoencoder, load_edm, load_zoomldm
from zoomldm.weights.read import weight_file

EDM_SIZES = ("network", "width", "depth", "num_heads")
NOT_SIZES = ("loss", "tokens", "init", "weights")
"""Keys of a model's configuration that say nothing of its sizes."""

SHORTEST_NAME = 4
"""Shorter names than this cannot be told from other text and are not searched for; nothing writes them either."""


@dataclass(frozen=True)
class Source:
    """What an export is made of."""

    run: Run
    cfg: Any
    manifest: Any
    model: Any
    autoencoder: Any
    edm: Any | None


def export(cfg: Any) -> Path:
    """Write the run that ``conf/export.yaml`` names as a folder; return it.

    Raises:
        UserError: no such run, the folder is there already, or a name that must not leave would.
    """
    source = load_source(cfg)
    target = Path(cfg.folder) if cfg.folder else source.run.folder / "export"
    if target.exists():
        if not cfg.fresh:
            raise ConfigError(f"{target}: is there already; fresh=true replaces it, folder= names another")
        shutil.rmtree(target)
    aside = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        pipeline = make_pipeline(source)
        pipeline.save_pretrained(aside, safe_serialization=True)
        from zoomldm.export.model_card import card

        write_atomically(aside / "README.md", card(source, title=cfg.title, parts=parts_of(aside)))
        require_anonymous(aside, names_of(source))
        aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    print(f"exported {source.run.name}, checkpoint of step {source.model.step}, to {target}")
    return target


def load_source(cfg: Any) -> Source:
    """Load a ZoomLDM run, its autoencoder, data set's manifest and, unless ``edm=none``, embedding diffusion model."""
    from omegaconf import OmegaConf

    from zoomldm.data.manifest import Manifest

    run = find_run(cfg.paths.runs, "zoomldm", cfg.run)
    run_cfg = OmegaConf.create(run.config)
    run_cfg.paths.runs = str(cfg.paths.runs)
    manifest = Manifest.load(run_cfg.data.root)
    model = load_zoomldm(cfg.paths.runs, run.name, num_rungs=len(manifest.ladder), grid_dim=manifest.encoder.dim)
    edm = None
    if cfg.edm != "none" and model.module.conditioner.uses_grid:
        try:
            edm = load_edm(cfg.paths.runs, find_edm(cfg.paths.runs, run.name, cfg.edm).name)
        except UserError as error:
            if cfg.edm is not None:
                raise
            print(f"without an embedding diffusion model: {error}")
    return Source(
        run, run_cfg, manifest, model, load_autoencoder(cfg.paths.runs, **build.plain(run_cfg.autoencoder)), edm
    )


def make_pipeline(source: Source) -> Any:
    """Make the pipeline of a run in memory."""
    from diffusers import DDIMScheduler

    from zoomldm.export.pipeline import Summarizer, ZoomLDMPipeline

    model, cfg, manifest = source.model.module, source.cfg, source.manifest
    summarizer = Summarizer(
        cond=dict(build.option_of(cfg, "cond").section),
        tokens=build.plain(cfg.model.tokens),
        num_rungs=len(manifest.ladder),
        grid_dim=manifest.encoder.dim,
    )
    summarizer.conditioner.load_state_dict(model.conditioner.state_dict())
    scheduler = DDIMScheduler(
        **model.schedule.diffusers_arguments(),
        steps_offset=1,
        set_alpha_to_one=False,
        clip_sample=False,
        timestep_spacing="leading",
    )
    pipeline = ZoomLDMPipeline(
        unet=model.unet,
        vqvae=_autoencoder(source),
        scheduler=scheduler,
        summarizer=summarizer,
        edm=_edm(source),
        ladder=manifest.ladder.to_dict(),
        encoder=_encoder_facts(manifest),
        sampling={"steps": cfg.sampling.steps, "guidance_scale": cfg.sampling.guidance_scale},
    )
    for part in (pipeline.unet, pipeline.vqvae, pipeline.summarizer, pipeline.edm):
        if part is not None:
            part.eval()
    return pipeline


def _autoencoder(source: Source) -> Any:
    from zoomldm.export.pipeline import PatchAutoencoder
    from zoomldm.model.autoencoder import Autoencoder

    module, scale = source.autoencoder.module, source.model.module.latent_scale
    if type(module) is Autoencoder:
        module.vq.register_to_config(scaling_factor=scale)
        return module.vq
    config = find_run(source.cfg.paths.runs, "autoencoder", source.cfg.autoencoder.run).config
    sizes = {key: value for key, value in config["model"].items() if key not in NOT_SIZES}
    exported = PatchAutoencoder(model=sizes, scaling_factor=scale)
    exported.autoencoder.load_state_dict(module.state_dict())
    return exported


def _edm(source: Source) -> Any:
    from omegaconf import OmegaConf

    from zoomldm.export.pipeline import TokenDiffusion

    if source.edm is None:
        return None
    edm, cfg = source.edm.module, OmegaConf.create(source.edm.config)
    exported = TokenDiffusion(
        model={key: build.plain(cfg.model[key]) for key in EDM_SIZES},
        schedule=dict(build.option_of(cfg, "schedule").section),
        solver=dict(build.option_of(cfg, "solver").section),
        num_rungs=edm.num_rungs,
        num_tokens=edm.num_tokens,
        token_dim=edm.token_dim,
        num_steps=cfg.sampling.steps,
        guidance_scale=cfg.sampling.guidance_scale,
    )
    exported.edm.load_state_dict(edm.state_dict())
    return exported


def _encoder_facts(manifest: Any) -> dict[str, Any]:
    encoder = manifest.encoder
    facts = {name: getattr(encoder, name) for name in ("name", "dim", "weights_sha256", "input_px", "mpp")}
    statistics = {k: v for k, v in (encoder.statistics or {}).items() if k in ("mean", "std", "features")}
    return facts | {"statistics": statistics or None}


def parts_of(folder: Path) -> dict[str, str]:
    """Return the hash of every weight file in an export, by its path there."""
    return {str(path.relative_to(folder)): sha256_of(path) for path in sorted(folder.rglob("*.safetensors"))}


def start_of(source: Source) -> dict[str, str]:
    """Return what the weights started from: family of the file -> its hash, without the file's name."""
    found = {}
    init, given = source.cfg.unet.init, source.cfg.autoencoder.weights
    for name, path in (("U-Net started from published weights", init), ("published autoencoder", given)):
        if path:
            file = Path(path).expanduser()
            found[name] = sha256_of(weight_file(file)) if file.exists() else "not at hand any more"
    return found


def names_of(source: Source) -> set[str]:
    """Return the names of slides, patients, this machine and its folders, none of which may leave."""
    manifest, paths = source.manifest, build.plain(source.cfg.paths)
    names = {patient for patients in manifest.patients.values() for patient in patients} | set(manifest.excluded())
    slides = {line["slide"] for line in manifest.slides}
    names |= slides | {slide.replace(".", "_") for slide in slides}
    places = [
        *(path for path in paths.values() if isinstance(path, str)),
        manifest.root,
        source.run.folder,
        Path.home(),
        Path.cwd(),
    ]
    names |= {str(Path(place).expanduser().resolve()) for place in places}
    return {name for name in names | {platform.node()} if len(name) >= SHORTEST_NAME}


def require_anonymous(folder: Path, names: Iterable[str]) -> None:
    """Refuse an export that holds one of the names, in a text file or in the header of a weight file.

    Raises:
        UserError: which file holds which name.
    """
    patterns = [(name, re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w-])", re.IGNORECASE)) for name in names]
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        text = _text_of(path)
        for name, pattern in patterns:
            if pattern.search(text):
                raise UserError(
                    f"export: {path.relative_to(folder)} would hold {name!r}, the name of a slide, a patient or a "
                    "place, so nothing was exported. Choose another title= (or rename what carries the name)"
                )


def _text_of(path: Path) -> str:
    if path.suffix != ".safetensors":
        return path.read_text(encoding="utf-8", errors="replace")
    with path.open("rb") as stream:
        return json.dumps(json.loads(stream.read(int.from_bytes(stream.read(8), "little"))))


def evaluations_of(source: Source) -> list[Any]:
    """Return the run's evaluations of the exported checkpoint."""
    return [one for one in stored_evaluations(source.run.folder) if one.step == source.model.step]
