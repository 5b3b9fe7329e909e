"""All that sampling from a ZoomLDM run needs: models and data set, found by its own configuration, fitting together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from zoomldm.config import Option
from zoomldm.data.manifest import Manifest
from zoomldm.diffusion.solvers.base import Solver
from zoomldm.errors import DataError, UserError
from zoomldm.ladder import Ladder
from zoomldm.model.token_model import TokenModel
from zoomldm.model.zoomldm import ZoomLDM
from zoomldm.runs.belonging import conditioner_run, find_edm
from zoomldm.runs.checkpoint import newest_model
from zoomldm.runs.lineage import INIT, Parent, require_autoencoder, require_data, require_step, require_zoomldm
from zoomldm.runs.run import Run, find_run
from zoomldm.sampling.compute import Compute
from zoomldm.sampling.generator import PatchGenerator
from zoomldm.sampling.settings import Sampling, interval_of, scales_of
from zoomldm.stages.base import stage_of
from zoomldm.stages.loaded import Loaded, LoadedAutoencoder, load_autoencoder, load_edm, load_zoomldm
from zoomldm.stages.zoomldm import ZoomLDMStage


@dataclass(frozen=True, kw_only=True)
class HowToSample:
    """What a command was asked for; None: as the runs' configurations say.

    Guidance is of the ZoomLDM; an embedding diffusion model has a scale of its own.
    """

    solver: Option | None = None
    steps: int | None = None
    guidance_scale: float | Mapping[Any, float] | None = None
    guidance_interval: Sequence[float] | None = None
    edm_guidance_scale: float | Mapping[Any, float] | None = None
    seed: int = 0
    compute: Compute = field(default_factory=Compute)

    def over(self, default: Sampling, ladder: Ladder) -> Sampling:
        """Return what was asked for, and the default where nothing was; ladder: of the magnifications it is told by."""
        asked = {
            "solver": self.solver and self.solver.make(Solver),
            "steps": self.steps,
            "guidance_scale": None if self.guidance_scale is None else scales_of(self.guidance_scale, ladder),
            "guidance_interval": interval_of(self.guidance_interval),
        }
        return replace(default, **{name: value for name, value in asked.items() if value is not None})

    def over_edm(self, default: Sampling, ladder: Ladder) -> Sampling:
        """Return the same of an embedding diffusion model."""
        its = replace(self, guidance_scale=self.edm_guidance_scale, guidance_interval=None)
        return its.over(default, ladder)


@dataclass(frozen=True, kw_only=True)
class TrainedModels:
    """A ZoomLDM run with its autoencoder, its data set and perhaps an embedding diffusion model."""

    run: Run
    manifest: Manifest
    model: Loaded[ZoomLDM]
    autoencoder: LoadedAutoencoder
    edm: Loaded[TokenModel] | None
    allow: tuple[str, ...] = ()

    @property
    def config(self) -> dict[str, Any]:
        """The ZoomLDM run's configuration."""
        return self.model.config

    @property
    def identity(self) -> dict[str, str | None]:
        """The hashes of what synthetic patches depend on."""
        return {
            "model": self.model.sha256,
            "autoencoder": self.autoencoder.sha256,
            "edm": self.edm and self.edm.sha256,
            "data": self.manifest.sha256,
        }

    @property
    def sampling(self) -> Sampling:
        """How the run's configuration says that it is sampled."""
        return sampling_of(self.config, self.manifest.ladder, self.allow)

    @property
    def weights(self) -> dict[str, str]:
        """The hashes of what there is, by part."""
        return {part: sha256 for part, sha256 in self.identity.items() if sha256}

    def generator(self, how: HowToSample) -> PatchGenerator:
        """Return what turns conditions into patches."""
        ladder = self.manifest.ladder
        return PatchGenerator(
            self.model.module,
            self.autoencoder.module,
            edm=self.edm and self.edm.module,
            sampling=how.over(self.sampling, ladder),
            edm_sampling=self.edm and how.over_edm(sampling_of(self.edm.config, ladder, self.allow), ladder),
            seed=how.seed,
            compute=how.compute,
        )

    def maker_of_untrained(self, seed: int) -> Callable[[], ZoomLDM]:
        """Return what builds the same network before training."""

        def make() -> ZoomLDM:
            stage = stage_of(self.config, self.allow)
            if not isinstance(stage, ZoomLDMStage):
                raise TypeError(f"run {self.run.name}: a ZoomLDM whose configuration makes a {type(stage).__name__}")
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                return stage.untrained(**_sizes(self.manifest), latent_scale=self.model.module.latent_scale).eval()

        return make


def load_trained(
    runs: str | Path,
    name: str | None,
    *,
    data_root: str | Path | None = None,
    step: int | None = None,
    edm: str | None = None,
    wants_edm: bool,
    allow: tuple[str, ...] = (),
) -> TrainedModels:
    """Load a ZoomLDM run and what it stands on, and refuse what doesn't fit together.

    Args:
        name: of the run; None for the newest.
        data_root: of the data set; None for the run's own.
        step: of the checkpoint; None for the newest.
        edm: run of the embedding diffusion model; None for the newest that belongs to the run, if there is one.
        allow: packages whose classes a stored configuration may name.

    Raises:
        UserError: something is missing, or was made with another state of what it stands on.
    """
    run = find_run(runs, "zoomldm", name)
    config = run.config
    manifest = Manifest.load(data_root or config["data"]["root"])
    _require_patches(run, manifest)
    manifest.check_encoder(config["encoder"]["name"])
    model = load_zoomldm(runs, run.name, **_sizes(manifest), step=step, allow=allow)
    named = config["autoencoder"]
    autoencoder = load_autoencoder(runs, run=named["run"], weights=named["weights"], allow=allow)
    if data_root is None:
        data = Parent(manifest.name, manifest.identity(model.module.columns))
        require_data(run.name, model.parents, data=data)
    require_autoencoder(
        run.name, model.parents, latent=manifest.columns.get("latent"), autoencoder=autoencoder.as_parent
    )
    loaded_edm = _load_edm(runs, model, edm, allow, step=step) if wants_edm else None
    return TrainedModels(run=run, manifest=manifest, model=model, autoencoder=autoencoder, edm=loaded_edm, allow=allow)


def _require_patches(run: Run, manifest: Manifest) -> None:
    """Refuse a data set whose patches are of another size than a run's.

    Raises:
        DataError: names both.
    """
    made, given = run.config["model"]["patch_px"], manifest.ladder.patch_px
    if made != given:
        raise DataError(
            f"{manifest.root}: patches of {given} px, run {run.name} makes patches of {made} px; name a data set of "
            f"these (data=, data.root=)"
        )


def sampling_of(config: dict[str, Any], ladder: Ladder, allow: tuple[str, ...]) -> Sampling:
    """Return how a run of this configuration is sampled."""
    return Sampling.of(config["sampling"], solver=Option("solver", config["solver"], allow), ladder=ladder)


def _load_edm(
    runs: str | Path, model: Loaded[ZoomLDM], name: str | None, allow: tuple[str, ...], *, step: int | None
) -> Loaded[TokenModel] | None:
    """Load the named embedding diffusion model, or the newest that belongs to a ZoomLDM; None where there is none.

    Args:
        step: of the ZoomLDM's checkpoint, where one was asked for.
    """
    zoomldm = _whose_tokens(model)
    try:
        run = find_edm(runs, model.run_name, name)
        if step is not None:
            require_step(run.name, newest_model(run.folder).parents, zoomldm=zoomldm, step=step)
    except UserError as error:
        if name is not None:
            raise
        print(f"without an embedding diffusion model: {error}")
        return None
    if name is None and (label := run.config.get("label")):
        print(f"{run.name}, trained with label={label['name']}, draws conditions: no other EDM learnt these tokens")
    edm = load_edm(runs, run.name, allow=allow)
    require_zoomldm(run.name, edm.parents, learnt=edm.config["zoomldm"]["run"], zoomldm=zoomldm)
    return edm


def _whose_tokens(model: Loaded[ZoomLDM]) -> Parent:
    """Return the run whose tokens embedding diffusion models learn: its own, or that whose conditioner it keeps."""
    kept = conditioner_run(model.config)
    return Parent(kept, model.parents[INIT]) if kept else model.as_parent


def _sizes(manifest: Manifest) -> dict[str, int]:
    return {"num_rungs": len(manifest.ladder), "grid_dim": manifest.encoder.dim}
