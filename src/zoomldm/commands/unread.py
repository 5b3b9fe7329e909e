"""Which keys and sections each command doesn't look at under what was chosen, and why.

plan=true shows what the same command without it would do, so whatever that would look at may stand beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import TYPE_CHECKING

from zoomldm.commands.check import stage_in
from zoomldm.commands.job import allowed, option
from zoomldm.commands.requests import data_root, options_named, section, stored_config
from zoomldm.commands.sample import source_option
from zoomldm.config import Option, parameters_of
from zoomldm.stages.base import Stage

if TYPE_CHECKING:
    from omegaconf import DictConfig


def _unread_by_preparation(cfg: DictConfig, is_sweep: bool) -> Iterator[tuple[str, str]]:
    yield "features", "preparation judges nothing, so it has no effect (src/evaluate.py does)"
    if cfg.plan:
        yield "add", "plan=true says what a preparation makes of the slides, so it has no effect"
    packing = ("drop_images", "max_failed")
    if cfg.export:
        reason = "export=h5 writes what is prepared in other files, so it has no effect"
        others = ("plan", "add", "part", "repack", "executor", "workers", "encoders", "timeout_s", *packing)
        yield from dict.fromkeys(others, reason).items()
    elif cfg.add:
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
    takes = {one.name for one in fields(stage)}
    for fact, sections, lacks in TAKEN:
        if fact not in takes:
            yield from dict.fromkeys(sections, f"{model} {lacks}, so it has no effect").items()
    if "zoomldm_run" in takes:
        yield "cond.*", f"the conditioner is that of zoomldm.run={cfg.zoomldm.run}, so it has no effect"
    if "unet" in takes and not is_sweep:
        yield from _unread_by_conditioner(cfg)
    if "autoencoder" in takes and stage.autoencoder.weights not in (None, "???"):
        yield "autoencoder.run", "autoencoder.weights is taken, so it has no effect"
    if type(stage).pictures is Stage.pictures and cfg.train.sample_every:
        yield "train.sample_every", f"{model} draws no pictures while it trains, so it has no effect"
    if not cfg.paths.remote:
        yield "paths.remote_gb", "paths.remote is not set, so it has no effect"
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
    from zoomldm.sampling.sources.base import Source

    yield "features", "sampling judges nothing, so it has no effect (src/evaluate.py does)"
    yield from BESIDE_TRAINING.items()
    source = source_option(cfg)
    kind, chosen = source.target(Source), f"source={source.name}"
    takes = parameters_of(kind)
    for key in (key for key, fact in (("encoder", "encoder"), ("reader", "readers")) if fact not in takes):
        yield key, f"{chosen} embeds nothing, so it has no effect (source=image and slide do)"
    if cfg.weights and "manifest" not in takes:
        yield "data", f"{chosen} of a published model needs no data set, so it has no effect"
    if not kind.needs_edm:
        reason = f"{chosen} draws no conditions, so it has no effect (source=generated does)"
        yield from dict.fromkeys(("edm", "edm_weights", "sampling.edm_guidance_scale"), reason).items()
    elif cfg.weights:
        yield "sampling.edm_guidance_scale", "the published condition model takes no guidance, so it has no effect"
    else:
        yield "edm_weights", "it belongs to weights=, so it has no effect (edm= names a run)"


def _unread_by_app(cfg: DictConfig, is_sweep: bool) -> Iterator[tuple[str, str]]:
    yield "features", "the page judges nothing, so it has no effect (src/evaluate.py does)"
    yield from BESIDE_TRAINING.items()
    yield "fabric.devices", "the page samples on one device, so it has no effect"
    yield "fabric.compile", "a page's first patches would wait for it, so it has no effect"


def _unread_by_conditioner(cfg: DictConfig) -> Iterator[tuple[str, str]]:
    """Say what the conditioner's class makes of no use; this imports it. In a sweep other jobs may use it."""
    from zoomldm.cond.base import Conditioner

    cond, choice = option(cfg, "cond").target(Conditioner), f"cond={cfg.cond.name}"
    if not cond.uses_condition:
        for key in ("guidance_scale", "guidance_interval"):
            yield f"sampling.{key}", f"{choice} leaves nothing to guide by, so it has no effect"
        yield "diffusion.dropout_p", f"{choice} leaves nothing to drop, so it has no effect"
    for name in set(cfg.model.tokens) - {"dim"} - set(parameters_of(cond)):
        yield f"model.tokens.{name}", f"{choice} has no use for it, so it has no effect"
    if cfg.cond.get("position_embedding") is not None:
        yield "model.tokens.position_embedding", "cond.position_embedding is taken, so it has no effect"


def _unread_by_evaluation(cfg: DictConfig, is_sweep: bool) -> Iterator[tuple[str, str]]:
    """Say what no chosen row or metric looks at; this imports their classes, as the evaluation will."""
    from zoomldm.evaluation.metrics.base import Metric
    from zoomldm.evaluation.rows.base import Row
    from zoomldm.evaluation.rows.synthetic import SyntheticRow

    yield from BESIDE_TRAINING.items()
    if cfg.step is not None or section(cfg, "model"):
        yield "tracking", "what is tracked are figures of a run's newest checkpoint, so it has no effect"
    yield "evaluation.num_in_sweep", "this is no sweep's evaluation, so it has no effect"
    if cfg.num_per_magnification is not None:
        yield "evaluation.num_per_magnification", "num_per_magnification is taken, so it has no effect"
    rows = [one.target(Row) for one in options_named(cfg, "rows")]
    if not any(row.needs_edm for row in rows):
        reason = "no row of rows= has generated conditions, so it has no effect"
        yield from dict.fromkeys(("edm", "sampling.edm_guidance_scale"), reason).items()
    if not any(issubclass(row, SyntheticRow) for row in rows):
        yield from dict.fromkeys(("sampling", "solver"), "no row of rows= is synthetic, so it has no effect").items()
    if not any(one.target(Metric).needs_embeddings for one in options_named(cfg, "metrics")) and not _judges_by_it(cfg):
        yield "encoder", "nothing that was chosen measures by it (metrics=[fidelity,…] does), so it has no effect"


def _judges_by_it(cfg: DictConfig) -> bool:
    """Say whether a descriptor takes the encoder that conditions the model."""
    from zoomldm.features.base import Descriptor

    features = section(cfg, "features") or stored_config(cfg)["features"]
    sections = [features, *(features.get("also") or {}).values()]
    return any("encoder" in parameters_of(Option("features", one, allowed(cfg)).target(Descriptor)) for one in sections)


def _unread_by_demo(cfg: DictConfig, is_sweep: bool) -> Iterator[tuple[str, str]]:
    yield "allow_code", "the demo makes no class of yours, so it has no effect"
    if not cfg.slides:
        yield "mpp", "the demo's own slides say their scale, so it has no effect (slides=FOLDER)"


def _unread_by_reference(cfg: DictConfig, is_sweep: bool) -> Iterator[tuple[str, str]]:
    yield "allow_code", "the reference model is made of our own classes, so it has no effect"
    if cfg.pack:
        yield from dict.fromkeys(("patients", "growth"), "pack=true trains nothing, so it has no effect").items()
    else:
        yield "folder", "pack=true alone writes there, so it has no effect"


TAKEN = (
    ("cond", ("cond", "encoder"), "has no condition"),
    ("drop_probability", ("schedule", "solver", "sampling", "diffusion"), "diffuses nothing"),
    ("prediction", ("prediction",), "leaves no choice of what is predicted"),
    ("unet", ("unet",), "has no U-Net"),
    ("autoencoder", ("autoencoder",), "reads no latents"),
    ("zoomldm_run", ("zoomldm",), "learns no tokens of a ZoomLDM"),
    ("label", ("label",), "is told no labels"),
)
"""(fact that a stage takes, sections of the configuration that are of no use without it, what that stage lacks)."""

BESIDE_TRAINING = {
    "fabric.num_workers": "only training loads by processes of their own, so it has no effect",
    "paths.remote": "only training reads shards that lie elsewhere, so it has no effect",
    "paths.remote_gb": "only training reads shards that lie elsewhere, so it has no effect",
}
"""What evaluate.py, sample.py and app.py have and don't look at."""


def _unread_by_slides(cfg: DictConfig, is_sweep: bool) -> Iterator[tuple[str, str]]:
    from zoomldm.commands.slide_source import OF_A_PLACE
    from zoomldm.sampling.sources.base import Source

    yield "features", "drawing judges nothing, so it has no effect (src/evaluate.py does)"
    if option(cfg, "source").target(Source).needs_edm:
        reason = "a slide is drawn out of nothing, so it has no effect (source=image and slide have a place)"
        yield from dict.fromkeys(("encoder", "reader", "inversion", *OF_A_PLACE), reason).items()
        yield "source.label", "a slide is drawn without labels, so it has no effect (src/sample.py)"
    if cfg.region is None:
        yield "overview", "the slide is drawn whole, so it has no effect (region= draws a part)"
    yield from BESIDE_TRAINING.items()
    if section(cfg, "model") and data_root(cfg):
        yield "data", f"model={cfg.model.name} brings its own ladder, so it has no effect"


UNREAD: dict[str, Callable[[DictConfig, bool], Iterator[tuple[str, str]]]] = {
    "prepare": _unread_by_preparation,
    "latents": _unread_by_latents,
    "verify": _unread_by_verification,
    "train": _unread_by_training,
    "sample": _unread_by_sampling,
    "slide": _unread_by_slides,
    "app": _unread_by_app,
    "evaluate": _unread_by_evaluation,
    "compare": lambda cfg, is_sweep: iter([("paths.data", "runs name their own data, so it has no effect")]),
    "demo": _unread_by_demo,
    "reference": _unread_by_reference,
    "view": lambda cfg, is_sweep: iter([("allow_code", "no class is made, so it has no effect")]),
    "doctor": lambda cfg, is_sweep: iter([("allow_code", "no class is made, so it has no effect")]),
}
"""By entry, what gives each key or section that is not looked at, and why."""
