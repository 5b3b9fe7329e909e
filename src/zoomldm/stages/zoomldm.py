"""The second stage: ZoomLDM, over the latents of a trained autoencoder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from zoomldm.config import Option
from zoomldm.errors import DataError, UserError
from zoomldm.features.base import Descriptor
from zoomldm.ladder import Ladder
from zoomldm.runs.lineage import AUTOENCODER, INIT, Parent, parent_of_file, parent_of_run, require_latents
from zoomldm.stages.base import Judged, Stage, WeightSource, encoder_fault, file_fault, reads_grids, schedule_fault
from zoomldm.stages.packed import REFERENCE

if TYPE_CHECKING:
    import numpy as np
    from diffusers import UNet2DConditionModel

    from zoomldm.data.batch import Batch
    from zoomldm.data.manifest import Manifest
    from zoomldm.model.trainable import Trainable
    from zoomldm.model.zoomldm import ZoomLDM
    from zoomldm.sampling.compute import Compute
    from zoomldm.sampling.training_pictures import TrainingPictures


@dataclass(frozen=True, kw_only=True)
class ZoomLDMStage(Stage):
    """A conditioner and a U-Net.

    Attributes:
        tokens: resolution, widths, dim and position_embedding of the condition tokens.
        unet: sizes of the U-Net, and the published one that it starts from (``init``).
        autoencoder: what made the latents.
        sampling: steps and guidance, as `Sampling.of` reads them.
        drop_probability: chance that a sample trains without its condition.
        parent: how samples are told the level above (``zoomldm.model.parent.ParentInput``); None: never.
        init_run: a trained run: its conditioner is kept, and its U-Net, which may be one that is not told the level
            above, is trained on.
    """

    kind = "zoomldm"
    explained: ClassVar[Mapping[str, str]] = {
        "autoencoder.weights": "a published autoencoder (docs/weights.md), or null for the one trained here",
        "unet.init": "the published ImageNet U-Net cin256-v2 (docs/weights.md), or null to train from scratch",
    }

    tokens: Mapping[str, Any]
    unet: Mapping[str, Any]
    autoencoder: WeightSource
    cond: Option
    schedule: Option
    prediction: Option
    solver: Option
    sampling: Mapping[str, Any]
    drop_probability: float
    parent: Mapping[str, Any] | None
    init_run: str | None

    @property
    def stem(self) -> tuple[str, ...]:
        return self.name, self.data, self.cond.name

    @property
    def stands_on(self) -> tuple[tuple[str, str], ...]:
        autoencoder = () if self.autoencoder.weights else (("autoencoder", str(self.autoencoder.run)),)
        return autoencoder + ((("zoomldm", self.init_run),) if self.init_run else ())

    def contradictions(self, ladder: Ladder) -> Iterator[str]:
        yield from super().contradictions(ladder)
        if self.features.name == self.encoder.name and self.features.arguments.get("encoder"):
            yield f"features={self.features.name} judges with the encoder that conditions the model; use another"
        if self.init_run and self.unet["init"]:
            yield f"model.init_run={self.init_run} and unet.init={self.unet['init']}: a U-Net starts from one of them"

    def lacking(self, manifest: Manifest | None) -> Iterator[str]:
        yield from encoder_fault(manifest, self.encoder)
        yield from file_fault("unet.init", self.unet["init"], "a published U-Net")
        if self.autoencoder.weights == REFERENCE:
            yield f"autoencoder.weights={REFERENCE}: model=autoencoder_tiny begins there; name its run: autoencoder.run"
        else:
            yield from file_fault("autoencoder.weights", self.autoencoder.weights, "a published autoencoder")
        try:
            self.features.target(Descriptor).check_files(self.features.arguments)
        except UserError as error:
            yield str(error)

    def mismatches(self) -> Iterator[str]:
        yield from schedule_fault(self.schedule, self.prediction)

    def judged(self, run_name: str) -> Judged:
        return Judged(zoomldm=run_name)

    @property
    def columns(self) -> tuple[str, ...]:
        from zoomldm.model.zoomldm import columns_of

        return columns_of(uses_grid=reads_grids(self.cond), told_parents=self.parent is not None)

    def parents(self, manifest: Manifest) -> dict[str, str]:
        given = self._autoencoder()
        command = f"python data_prep/latents.py data={self.data} {self.autoencoder.given}"
        latent = manifest.columns.get("latent")
        if not latent:
            raise DataError(f"{manifest.root}: no latents yet; make them with `{command}`")
        require_latents(latent, root=manifest.root, autoencoder=given, command=f"`{command} repack=true`")
        shape = [self.latent_channels, self.latent_px, self.latent_px]
        if list(latent["shape"]) != shape:
            raise DataError(
                f"{manifest.root}: latents of shape {latent['shape']}, model={self.name} takes {shape}; use an "
                "autoencoder and a model of the same sizes"
            )
        made_by = latent.get("autoencoder_sha256")
        parents = super().parents(manifest) | ({AUTOENCODER: made_by} if made_by else {})
        if self.init_run:
            parents[INIT] = parent_of_run(self.runs, "zoomldm", self.init_run).sha256
        return parents

    def former_identities(self, manifest: Manifest) -> tuple[str, ...]:
        return (manifest.identity(("latent", "grid")),)  # of every conditioner, also those that read no grid

    def untrained(self, *, num_rungs: int, grid_dim: int, latent_scale: float) -> ZoomLDM:
        """Build the model.

        Args:
            num_rungs: of the ladder; grid_dim: width D of the encoder's embeddings; latent_scale: see ZoomLDM.
        """
        from zoomldm.cond.base import Conditioner, facts_of_model
        from zoomldm.diffusion.prediction.base import Prediction
        from zoomldm.diffusion.schedules.base import NoiseSchedule
        from zoomldm.model.parent import ParentInput, num_planes
        from zoomldm.model.zoomldm import ZoomLDM

        facts = facts_of_model(self.tokens, num_rungs=num_rungs, grid_dim=grid_dim)
        conditioner = self.cond.make(Conditioner, **facts)
        latent_shape = (self.latent_channels, self.latent_px, self.latent_px)
        told = num_planes(self.patch_px, self.latent_px) if self.parent else 0
        return ZoomLDM(
            conditioner,
            unet_of(self.unet, latent_shape=latent_shape, context_dim=conditioner.token_dim, told=told),
            latent_shape=latent_shape,
            latent_scale=latent_scale,
            schedule=self.schedule.make(NoiseSchedule),
            prediction=self.prediction.make(Prediction),
            drop_probability=self.drop_probability,
            told_planes=told,
            parent=ParentInput(**self.parent) if self.parent else None,
        )

    def build(self, manifest: Manifest) -> Trainable:
        scale = manifest.columns["latent"]["scale"]
        sizes = {"num_rungs": len(manifest.ladder), "grid_dim": manifest.encoder.dim}
        model = self.untrained(**sizes, latent_scale=scale)
        if self.init_run:
            from zoomldm.model.parent import widened
            from zoomldm.stages.loaded import load_zoomldm

            start = load_zoomldm(self.runs, self.init_run, **sizes, allow=self.cond.allow).module.state_dict()
            model.load_state_dict(widened(start, model.state_dict()))
            model.keep_conditioner()
        if self.unet["init"]:
            from zoomldm.stages.published import init_zoomldm

            for report in init_zoomldm(model, Path(self.unet["init"]).expanduser()):
                print(report)
        return model

    def pictures(
        self, trainable: Trainable, manifest: Manifest, *, folder: Path, seed: int, compute: Compute
    ) -> TrainingPictures | None:
        """Return syntheses beside held-out patches, where the data set has images."""
        from zoomldm.sampling.generator import PatchGenerator
        from zoomldm.sampling.settings import Sampling
        from zoomldm.sampling.training_pictures import TrainingPictures, shown_source
        from zoomldm.stages.loaded import load_autoencoder

        if "image" not in manifest.columns:
            return None
        source = shown_source(manifest, ("image", *(column for column in trainable.columns if column != "latent")))
        where = {"run": self.autoencoder.run, "weights": self.autoencoder.weights, "allow": self.cond.allow}
        generator = PatchGenerator(
            trainable,
            load_autoencoder(self.runs, **where).module,
            sampling=Sampling.of(self.sampling, solver=self.solver, ladder=manifest.ladder),
            seed=seed,
            compute=compute,
        )

        def answer(_: Trainable, batch: Batch) -> np.ndarray:
            return generator.from_batch(batch, range(len(batch)))

        return TrainingPictures(folder, source, answer=answer, seed=seed)

    def _autoencoder(self) -> Parent:
        """Return the autoencoder that the configuration names; its weights are unknown where its run is not at hand."""
        if self.autoencoder.weights:
            return parent_of_file(self.autoencoder.weights)
        try:
            return parent_of_run(self.runs, "autoencoder", str(self.autoencoder.run))
        except UserError:
            return Parent(self.autoencoder.run, None)


def unet_of(
    unet: Mapping[str, Any], *, latent_shape: tuple[int, int, int], context_dim: int, told: int = 0
) -> UNet2DConditionModel:
    """Build an untrained U-Net.

    Args:
        unet: its sizes, as in ``conf/model/zoomldm.yaml``; other keys are not looked at.
        latent_shape: (c, h, w); context_dim: width of a condition token.
        told: further input channels, for the level above.
    """
    from zoomldm.model.unet import build_unet

    return build_unet(
        sample_size=latent_shape[1],
        in_channels=latent_shape[0] + told,
        out_channels=latent_shape[0],
        model_channels=unet["model_channels"],
        channel_mult=tuple(unet["channel_mult"]),
        num_res_blocks=unet["num_res_blocks"],
        attention=tuple(level in unet["attention_levels"] for level in range(len(unet["channel_mult"]))),
        num_heads=unet["num_heads"],
        norm_groups=unet["norm_groups"],
        context_dim=context_dim,
    )
