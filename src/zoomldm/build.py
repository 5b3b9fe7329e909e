"""The one place where configuration becomes objects: names to classes, and sizes that are known at run time only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoomldm.config import Option
from zoomldm.errors import ConfigError, DataError, near_match
from zoomldm.files import sha256_of
from zoomldm.ladder import Ladder

if TYPE_CHECKING:
    from zoomldm.cond.base import Conditioner
    from zoomldm.curriculum.base import Curriculum
    from zoomldm.data.manifest import Manifest
    from zoomldm.diffusion.schedules.base import NoiseSchedule
    from zoomldm.diffusion.solvers.base import Solver
    from zoomldm.encoder.base import Encoder
    from zoomldm.model.autoencoder import Autoencoder
    from zoomldm.model.dit import DiT
    from zoomldm.model.edm import EDM
    from zoomldm.model.trainable import Trainable
    from zoomldm.model.zoomldm import ZoomLDM


def plain(node: Any) -> Any:
    """Return a configuration node as plain dicts and lists, resolved."""
    from omegaconf import OmegaConf

    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def ladder_of(cfg: Any) -> Ladder:
    return Ladder(**plain(cfg.data.ladder))


def curriculum_of(cfg: Any, manifest: Manifest, counts: Sequence[int] | None = None) -> Curriculum:
    """Build p(magnification | step); one-hot for ``training=single``.

    Args:
        counts: training samples of each rung, the manifest's where not given (exclude.txt may leave fewer).
    """
    from zoomldm.curriculum.base import Curriculum
    from zoomldm.curriculum.single import Single

    if counts is None:
        counts = [manifest.count("train", m) for m in manifest.ladder.magnifications]
    if cfg.training.name == "single":
        return Single(counts, ladder=manifest.ladder, magnification=cfg.training.magnification)
    option = option_of(cfg, "curriculum", cfg.get("allow_code") or ())
    return option.make(Curriculum, counts=counts, ladder=manifest.ladder)


# --- modules from their configuration ---------------------------------------------------------------------------------


def make_autoencoder(model: Any) -> Autoencoder:
    """Build an untrained autoencoder from ``conf/model/autoencoder*.yaml``."""
    from zoomldm.model.autoencoder import Autoencoder, LinearStartAutoencoder

    starts: dict[str, type[Autoencoder]] = {"random": Autoencoder, "linear": LinearStartAutoencoder}
    if model.start not in starts:
        raise ConfigError(f"model.start={model.start}: expected random or linear;{near_match(model.start, starts)}")
    return starts[model.start](
        channels=model.channels,
        mult=tuple(model.channel_mult),
        num_res_blocks=model.num_res_blocks,
        latent_channels=model.latent_channels,
        num_codes=model.num_codes,
        attention=model.middle_attention,
        norm_groups=model.norm_groups,
    )


def option_of(cfg: Any, group: str, allow: Sequence[str] = ()) -> Option:
    """Return the option that a configuration names for a group.

    Args:
        allow: packages besides ours whose classes may be named, from this command line.
    """
    return Option(group, plain(cfg[group]), tuple(allow))


def make_conditioner(cond: Option, tokens: Mapping[str, Any], *, num_rungs: int, grid_dim: int) -> Conditioner:
    """Build an untrained conditioner.

    Args:
        tokens: ``model.tokens``.
        num_rungs: of the ladder.
        grid_dim: width D of the encoder's embeddings, from the manifest.
    """
    from zoomldm.cond.base import Conditioner, facts_of_model

    return cond.make(Conditioner, **facts_of_model(tokens, num_rungs=num_rungs, grid_dim=grid_dim))


def make_unet(cfg: Any, *, context_dim: int):
    """Build an untrained U-Net from the ``unet`` section of ``conf/model/zoomldm*.yaml``."""
    from zoomldm.model.unet import build_unet

    num_levels = len(cfg.unet.channel_mult)
    return build_unet(
        sample_size=cfg.model.latent_px,
        in_channels=cfg.model.latent_channels,
        model_channels=cfg.unet.model_channels,
        channel_mult=tuple(cfg.unet.channel_mult),
        num_res_blocks=cfg.unet.num_res_blocks,
        attention=tuple(level in cfg.unet.attention_levels for level in range(num_levels)),
        num_heads=cfg.unet.num_heads,
        norm_groups=cfg.unet.norm_groups,
        context_dim=context_dim,
    )


def make_zoomldm(cfg: Any, *, num_rungs: int, grid_dim: int, latent_scale: float, allow: Sequence[str] = ()) -> ZoomLDM:
    """Build an untrained ZoomLDM: conditioner and U-Net, with the facts that the data set decides."""
    from zoomldm.model.zoomldm import ZoomLDM

    cond = option_of(cfg, "cond", allow)
    conditioner = make_conditioner(cond, plain(cfg.model.tokens), num_rungs=num_rungs, grid_dim=grid_dim)
    return ZoomLDM(
        conditioner,
        make_unet(cfg, context_dim=conditioner.token_dim),
        latent_shape=(cfg.model.latent_channels, cfg.model.latent_px, cfg.model.latent_px),
        latent_scale=latent_scale,
        schedule=schedule_of(cfg, allow),
        drop_probability=cfg.diffusion.dropout_p,
    )


def make_edm(cfg: Any, *, num_rungs: int, num_tokens: int, token_dim: int, allow: Sequence[str] = ()) -> EDM | DiT:
    """Build an untrained embedding diffusion model (``model.arch``: transformer or dit) for a conditioner's tokens."""
    from zoomldm.model.dit import DiT
    from zoomldm.model.edm import EDM

    sizes = {
        "num_rungs": num_rungs,
        "num_tokens": num_tokens,
        "token_dim": token_dim,
        "width": cfg.model.width,
        "depth": cfg.model.depth,
        "heads": cfg.model.num_heads,
    }
    kinds = {"transformer": EDM, "dit": DiT}
    if cfg.model.arch not in kinds:
        raise ConfigError(f"model.arch={cfg.model.arch}: expected transformer or dit")
    return kinds[cfg.model.arch](**sizes, schedule=schedule_of(cfg, allow))


def schedule_of(cfg: Any, allow: Sequence[str] = ()) -> NoiseSchedule:
    """Build the noise schedule that a model learns under."""
    from zoomldm.diffusion.schedules.base import NoiseSchedule

    return option_of(cfg, "schedule", allow).make(NoiseSchedule)


def solver_of(cfg: Any, allow: Sequence[str] = ()) -> Solver:
    """Build the solver that samples are drawn with."""
    from zoomldm.diffusion.solvers.base import Solver

    return option_of(cfg, "solver", allow).make(Solver)


# --- trained models, from runs and published files --------------------------------------------------------------------


@dataclass(frozen=True)
class LoadedAutoencoder:
    """An autoencoder in evaluation mode and what identifies it.

    Attributes:
        sha256: of the weight file; the latent column remembers it.
        source: the run's name or the weight file's name.
        is_original: published weights, whose latents are scaled by 1.0; otherwise the scale is 1/std on train.
    """

    module: Autoencoder
    sha256: str
    source: str
    is_original: bool


def load_autoencoder(cfg: Any) -> LoadedAutoencoder:
    """Load ``autoencoder.weights`` if given, else the newest checkpoint of the run ``autoencoder.run``.

    Raises:
        ConfigError: neither is given. WeightsError: the file or the run cannot be used.
    """
    if cfg.autoencoder.weights:
        path = Path(cfg.autoencoder.weights).expanduser()
        from zoomldm.weights.read import weight_file

        module = original_autoencoder(path)
        return LoadedAutoencoder(module.eval(), sha256_of(weight_file(path)), path.name, True)
    if not cfg.autoencoder.run:
        raise ConfigError(
            "autoencoder.run and autoencoder.weights are both null: give the run of a trained autoencoder "
            f"(`python src/train.py model=autoencoder data={cfg.data.name}`) or a published VQ-f4 file"
        )
    return load_autoencoder_run(cfg.paths.runs, cfg.autoencoder.run)


def original_autoencoder(path: Path) -> Autoencoder:
    """Build the autoencoder that a published VQ file holds, of the sizes found in it, and load it.

    Raises:
        WeightsError: not such a file.
    """
    from zoomldm.stages.published import autoencoder_of_file

    module, report = autoencoder_of_file(path)
    print(report)
    return module


def load_autoencoder_run(runs: str | Path, name: str) -> LoadedAutoencoder:
    """Load the newest checkpoint of an autoencoder's run."""
    run_cfg, info, weights = _load_run(runs, name, "autoencoder")
    module = make_autoencoder(run_cfg.model)
    module.load_state_dict(weights)
    return LoadedAutoencoder(module.eval(), info.sha256["model.safetensors"], name, False)


@dataclass(frozen=True)
class LoadedModel:
    """A trained model in evaluation mode, its run's configuration and the step of its checkpoint."""

    module: Any
    cfg: Any
    step: int
    sha256: str
    run_name: str


def load_zoomldm(runs: str | Path, name: str, *, num_rungs: int, grid_dim: int) -> LoadedModel:
    """Load the averaged weights of a ZoomLDM run.

    Args:
        num_rungs, grid_dim: of the data set (ladder and encoder), which decide sizes that no configuration holds.

    Raises:
        WeightsError: no such run, no checkpoint, a checkpoint of another model.
    """
    run_cfg, info, weights = _load_run(runs, name, "zoomldm")
    module = make_zoomldm(
        run_cfg, num_rungs=num_rungs, grid_dim=grid_dim, latent_scale=info.extra_state["latent_scale"]
    )
    _load_strictly(module, weights, name)
    return LoadedModel(module.eval(), run_cfg, info.step, info.sha256["model.safetensors"], name)


def load_edm(runs: str | Path, name: str) -> LoadedModel:
    """Load the averaged weights of an embedding diffusion model's run."""
    run_cfg, info, weights = _load_run(runs, name, "edm")
    facts = info.extra_state
    module = make_edm(
        run_cfg, num_rungs=facts["num_rungs"], num_tokens=facts["num_tokens"], token_dim=facts["token_dim"]
    )
    _load_strictly(module, weights, name)
    return LoadedModel(module.eval(), run_cfg, info.step, info.sha256["model.safetensors"], name)


def _load_run(runs: str | Path, name: str, kind: str) -> tuple[Any, Any, dict]:
    """Return (configuration, checkpoint info, averaged weights) of a run of this kind."""
    from omegaconf import OmegaConf

    from zoomldm.errors import WeightsError
    from zoomldm.runs.checkpoint import load_model
    from zoomldm.runs.run import find_run

    run = find_run(runs, name=name, kind=kind)
    info, weights = load_model(run.folder)
    if info.kind != kind:
        raise WeightsError(
            f"run {name}: its checkpoint holds a model of kind {info.kind}, expected {kind}; name another"
        )
    return OmegaConf.create(run.config), info, weights


def _load_strictly(module: Any, weights: dict, name: str) -> None:
    from zoomldm.errors import WeightsError

    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        first = " ".join(str(error).split())[:400]
        raise WeightsError(
            f"run {name}: its checkpoint does not fit the model that its configuration and the data set make: {first}"
        ) from error


# --- what train.py trains ---------------------------------------------------------------------------------------------


def make_trainable(cfg: Any, manifest: Manifest) -> Trainable:
    """Build what ``model=…`` trains, initialised from published weights where the configuration says so.

    Raises:
        UserError: what it stands on (latents, a run, a weight file) is missing or does not fit.
    """
    makers = {"autoencoder": _autoencoder_trainable, "zoomldm": _zoomldm_trainable, "edm": _edm_trainable}
    return makers[cfg.model.kind](cfg, manifest)


def _autoencoder_trainable(cfg: Any, manifest: Manifest) -> Trainable:
    from zoomldm.model.vq_training import VQTraining

    module, loss = make_autoencoder(cfg.model), plain(cfg.model.loss)
    if cfg.autoencoder.weights:
        from zoomldm.weights.load import load_vq

        print(load_vq(module.vq, Path(cfg.autoencoder.weights).expanduser()))
        loss["start_steps"] = None  # the published codebook is the start
    return VQTraining(module, **loss)


def _zoomldm_trainable(cfg: Any, manifest: Manifest) -> Trainable:
    latent = latent_facts(cfg, manifest)
    model = make_zoomldm(
        cfg,
        num_rungs=len(manifest.ladder),
        grid_dim=manifest.encoder.dim,
        latent_scale=latent["scale"],
        allow=cfg.get("allow_code") or (),
    )
    if cfg.unet.init:
        from zoomldm.stages.published import init_zoomldm

        for report in init_zoomldm(model, Path(cfg.unet.init).expanduser()):
            print(report)
    return model


def _edm_trainable(cfg: Any, manifest: Manifest) -> Trainable:
    from zoomldm.model.edm import EDMTrainable

    loaded = load_zoomldm(
        cfg.paths.runs, cfg.zoomldm.run, num_rungs=len(manifest.ladder), grid_dim=manifest.encoder.dim
    )
    conditioner = loaded.module.conditioner
    edm = make_edm(
        cfg,
        num_rungs=len(manifest.ladder),
        num_tokens=conditioner.num_tokens,
        token_dim=conditioner.token_dim,
        allow=cfg.get("allow_code") or (),
    )
    if cfg.model.init:
        from zoomldm.stages.published import load_edm_file

        print(load_edm_file(edm, Path(cfg.model.init).expanduser()))
    return EDMTrainable(edm, conditioner, drop_probability=cfg.diffusion.dropout_p)


def latent_facts(cfg: Any, manifest: Manifest) -> dict[str, Any]:
    """Return the manifest's facts about the latent column, after checking that the configured autoencoder made it.

    Raises:
        DataError: there is no latent column, or another autoencoder made it; the message gives the command.
    """
    given = (
        f"autoencoder.weights={cfg.autoencoder.weights}"
        if cfg.autoencoder.weights
        else f"autoencoder.run={cfg.autoencoder.run}"
    )
    command = f"`python data_prep/latents.py data={cfg.data.name} {given}`"
    facts = manifest.columns.get("latent")
    if not facts:
        raise DataError(f"{manifest.root}: no latents yet; make them with {command}")
    wanted = Path(cfg.autoencoder.weights).name if cfg.autoencoder.weights else cfg.autoencoder.run
    if facts["source"] != wanted:
        raise DataError(
            f"{manifest.root}: its latents were made by {facts['source']}, this configuration decodes with {wanted}; "
            f"make them again with {command}"
        )
    shape = [cfg.model.latent_channels, cfg.model.latent_px, cfg.model.latent_px]
    if list(facts["shape"]) != shape:
        raise DataError(
            f"{manifest.root}: latents of shape {facts['shape']}, model={cfg.model.name} takes {shape}; "
            "use an autoencoder and a model of the same sizes"
        )
    return facts


def make_encoder(cfg: Any, manifest: Manifest | None = None) -> Encoder:
    """Build the encoder of ``conf/encoder/*.yaml``; with a manifest, ``stats`` standardises as it did there."""
    from zoomldm.encoder.build import build_encoder

    return build_encoder(cfg.encoder, statistics=manifest.encoder.statistics if manifest else None)
