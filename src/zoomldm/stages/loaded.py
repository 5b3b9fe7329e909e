"""Trained models, from runs and from published files, in evaluation mode and with what identifies them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from torch import Tensor, nn

from zoomldm.errors import ConfigError, WeightsError
from zoomldm.model.autoencoder import Autoencoder, VQAutoencoder
from zoomldm.model.token_model import TokenModel
from zoomldm.model.zoomldm import ZoomLDM
from zoomldm.runs.checkpoint import CheckpointInfo, load_model
from zoomldm.runs.lineage import Parent, parent_of_file
from zoomldm.runs.run import find_run
from zoomldm.stages.base import Stage, stage_of

if TYPE_CHECKING:
    from zoomldm.stages.autoencoder import AutoencoderStage
    from zoomldm.stages.edm import EDMStage
    from zoomldm.stages.zoomldm import ZoomLDMStage

M = TypeVar("M", bound=nn.Module)

EDM_FACTS = ("num_rungs", "num_tokens", "token_dim", "label_names")
"""What rebuilds an embedding diffusion model beside its configuration; the last for one that is told labels."""


@dataclass(frozen=True, kw_only=True)
class Loaded(Generic[M]):
    """A trained model.

    Attributes:
        config: its run's configuration, plain; {} for a published file.
        step: of its checkpoint; 0 for a published file.
        sha256: of its weights, by which others name it as their parent.
        run_name: of its run; a published file's name.
        parents: what it was made with, by SHA-256; empty for a checkpoint of an earlier version.
    """

    module: M
    config: dict[str, Any]
    step: int
    sha256: str
    run_name: str
    parents: dict[str, str]

    @property
    def as_parent(self) -> Parent:
        """What it is to those that stand on it."""
        return Parent(self.run_name, self.sha256)


@dataclass(frozen=True, kw_only=True)
class LoadedAutoencoder(Loaded[Autoencoder]):
    """An autoencoder.

    Attributes:
        is_original: published weights with a codebook, whose latents are scaled by 1.0; otherwise the scale is 1/std
            on train, as latent diffusion scaled them where there is no codebook.
    """

    is_original: bool


def load_autoencoder(
    runs: str | Path, *, run: str | None, weights: str | Path | None, allow: tuple[str, ...] = ()
) -> LoadedAutoencoder:
    """Load a published file if one is given, else the newest checkpoint of a run of ours.

    Args:
        allow: packages whose classes a stored configuration may name (``allow_code=``).

    Raises:
        ConfigError: neither is given. WeightsError: the file or the run cannot be used.
    """
    if weights:
        from zoomldm.stages.published_autoencoder import autoencoder_of_file

        path = Path(weights).expanduser()
        module, report = autoencoder_of_file(path)
        print(report)
        parent = parent_of_file(path)
        return LoadedAutoencoder(
            module=module.eval(),
            config={},
            step=0,
            sha256=parent.sha256,
            run_name=parent.name,
            parents={},
            is_original=isinstance(module, VQAutoencoder),
        )
    if not run:
        raise ConfigError(
            "autoencoder.run and autoencoder.weights are both null: give the run of a trained autoencoder "
            "(`python src/train.py model=autoencoder data=…`) or a published file (docs/weights.md)"
        )
    found, config, info, tensors = _stored(runs, run, "autoencoder", allow)
    stage = cast("AutoencoderStage", found)
    return LoadedAutoencoder(is_original=False, **_loaded(stage.untrained(), tensors, config, info, run))


def load_zoomldm(
    runs: str | Path,
    name: str,
    *,
    num_rungs: int,
    grid_dim: int,
    step: int | None = None,
    allow: tuple[str, ...] = (),
) -> Loaded[ZoomLDM]:
    """Load the averaged weights of a ZoomLDM run, of its newest checkpoint unless ``step`` is given.

    Args:
        num_rungs, grid_dim: of the data set (ladder and encoder), which decide sizes that no configuration holds.

    Raises:
        WeightsError: no such run, no checkpoint, a checkpoint of another model.
    """
    found, config, info, tensors = _stored(runs, name, "zoomldm", allow, step)
    stage = cast("ZoomLDMStage", found)
    scale = info.extra_state["latent_scale"]
    module = stage.untrained(num_rungs=num_rungs, grid_dim=grid_dim, latent_scale=scale)
    return Loaded(**_loaded(module, tensors, config, info, name))


def load_edm(runs: str | Path, name: str, *, allow: tuple[str, ...] = ()) -> Loaded[TokenModel]:
    """Load the averaged weights of an embedding diffusion model's run."""
    found, config, info, tensors = _stored(runs, name, "edm", allow)
    stage = cast("EDMStage", found)
    module = stage.untrained(**{key: value for key, value in info.extra_state.items() if key in EDM_FACTS})
    return Loaded(**_loaded(module, tensors, config, info, name))


def _stored(
    runs: str | Path, name: str, kind: str, allow: tuple[str, ...], step: int | None = None
) -> tuple[Stage, dict[str, Any], CheckpointInfo, dict[str, Tensor]]:
    """Return (stage, configuration, checkpoint info, averaged weights) of a run of this kind."""
    run = find_run(runs, name=name, kind=kind)
    info, tensors = load_model(run.folder, step)
    config = run.config
    stage = stage_of(config, allow)
    if not info.kind == stage.kind == kind:
        raise WeightsError(
            f"run {name}: its checkpoint holds a model of kind {info.kind}, expected {kind}; name another"
        )
    return stage, config, info, tensors


def _loaded(
    module: M, tensors: dict[str, Tensor], config: dict[str, Any], info: CheckpointInfo, name: str
) -> dict[str, Any]:
    """Put weights into a module and return the fields of `Loaded`."""
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        first = " ".join(str(error).split())[:400]
        raise WeightsError(
            f"run {name}: its checkpoint does not fit the model that its configuration and the data set make: {first}"
        ) from error
    return {
        "module": module.eval(),
        "config": config,
        "step": info.step,
        "sha256": info.model_sha256,
        "run_name": name,
        "parents": info.parents,
    }
