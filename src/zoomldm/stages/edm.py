"""The third stage: the embedding diffusion model, over the tokens of a trained ZoomLDM's conditioner."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from zoomldm.config import Option, parameters_of
from zoomldm.errors import UserError
from zoomldm.ladder import Ladder
from zoomldm.runs.belonging import conditioner_run
from zoomldm.runs.lineage import LABELS, ZOOMLDM, parent_of_run
from zoomldm.runs.run import Run
from zoomldm.stages.base import Judged, Stage, encoder_fault, file_fault, reads_grids, schedule_fault

if TYPE_CHECKING:
    from zoomldm.cond.base import Conditioner
    from zoomldm.data.batch import Batch
    from zoomldm.data.manifest import Manifest
    from zoomldm.label.base import LabelTable
    from zoomldm.model.token_model import TokenModel
    from zoomldm.model.trainable import Trainable


@dataclass(frozen=True, kw_only=True)
class EDMStage(Stage):
    """A model of condition tokens.

    Attributes:
        network: its class; width, depth, num_heads: of its transformer; init: a published file that it starts from.
        zoomldm_run: the run whose tokens are learnt.
        cond: the conditioner that the run is expected to have, which names it.
        drop_probability: chance that a sample trains without its magnification and label.
        label: what it is told beside the magnification.
    """

    kind = "edm"
    explained: ClassVar[Mapping[str, str]] = {
        "zoomldm.run": "the run whose tokens are learnt",
        "label.file": "where the labels are (docs/labels.md)",
        "label.column": "the column of label.file whose names are the labels",
    }

    network: Option
    init: str | None
    width: int
    depth: int
    num_heads: int
    zoomldm_run: str
    cond: Option
    schedule: Option
    prediction: Option
    drop_probability: float
    label: Option | None = None

    @property
    def stem(self) -> tuple[str, ...]:
        return self.name, self.data, self.cond.name

    @property
    def stands_on(self) -> tuple[tuple[str, str], ...]:
        return (("zoomldm", self.zoomldm_run),)

    def contradictions(self, ladder: Ladder) -> Iterator[str]:
        found = list(super().contradictions(ladder))
        yield from found
        if not found and not reads_grids(self.cond):
            yield (
                f"model={self.name} cond={self.cond.name}: an embedding diffusion model learns tokens made from "
                f"embeddings, and cond={self.cond.name} makes none; use film, cnn, pool or vit"
            )
        if self.label and not _takes_labels(self.network):
            yield f"model={self.name} label={self.label.name}: this network is told no labels; use edm or edm_zoom"

    def lacking(self, manifest: Manifest | None) -> Iterator[str]:
        yield from encoder_fault(manifest, self.encoder)
        yield from file_fault("model.init", self.init, "a published condition model")
        run = Run(self.runs / self.zoomldm_run)
        config = run.config if run.described() else None
        if config and (trained := config["cond"]["name"]) != self.cond.name:
            yield f"cond={self.cond.name}: zoomldm.run={self.zoomldm_run} was trained with cond={trained}; name that"
        if config and (kept := conditioner_run(config)):
            yield f"zoomldm.run={self.zoomldm_run}: keeps the conditioner of {kept}, and so its tokens; name that one"
        if self.label and "???" not in self.label.arguments.values():
            try:
                if self.labels and manifest is not None:
                    self.labels.of_training(manifest)
            except UserError as error:
                yield str(error)

    def mismatches(self) -> Iterator[str]:
        yield from schedule_fault(self.schedule, self.prediction)

    def judged(self, run_name: str) -> Judged:
        return Judged(zoomldm=self.zoomldm_run, edm=run_name)

    @property
    def columns(self) -> tuple[str, ...]:
        return ("grid", "meta") if self.label else ("grid",)

    def parents(self, manifest: Manifest) -> dict[str, str]:
        parent = parent_of_run(self.runs, "zoomldm", self.zoomldm_run)
        labels = {LABELS: self.labels.sha256} if self.labels else {}
        return super().parents(manifest) | {ZOOMLDM: str(parent.sha256)} | labels

    @cached_property
    def labels(self) -> LabelTable | None:
        """The data set's labels, where there are some.

        Raises:
            UserError: they cannot be read.
        """
        from zoomldm.label.base import Label

        return self.label.make(Label).read() if self.label else None

    def untrained(
        self, *, num_rungs: int, num_tokens: int, token_dim: int, label_names: Sequence[str] = ()
    ) -> TokenModel:
        """Build the model.

        Args:
            num_rungs: of the ladder; num_tokens, token_dim: of the conditioner whose tokens are learnt.
            label_names: of the numbers of its labels, where it is told some.
        """
        sizes = {"num_rungs": num_rungs, "num_tokens": num_tokens, "token_dim": token_dim, "label_names": label_names}
        diffusion = {"schedule": self.schedule, "prediction": self.prediction, "label": self.label}
        return token_model_of(self.network, vars(self), **diffusion, **sizes)

    def build(self, manifest: Manifest) -> Trainable:
        import torch

        from zoomldm.stages.loaded import load_zoomldm

        sizes = {"num_rungs": len(manifest.ladder), "grid_dim": manifest.encoder.dim}
        conditioner = load_zoomldm(self.runs, self.zoomldm_run, **sizes, allow=self.cond.allow).module.conditioner
        edm = self.untrained(
            num_rungs=sizes["num_rungs"],
            num_tokens=conditioner.num_tokens,
            token_dim=conditioner.token_dim,
            label_names=self.labels.names if self.labels else (),
        )
        if self.labels:
            edm.fit_labels(torch.from_numpy(self.labels.of_training(manifest)))
        if self.init:
            from zoomldm.stages.published import load_edm_file

            print(load_edm_file(edm, Path(self.init).expanduser()))
        return self.trainable(edm, conditioner)

    def trainable(self, edm: TokenModel, conditioner: Conditioner) -> Trainable:
        """Put the model over the tokens of a frozen conditioner, with the data set's labels."""
        from zoomldm.model.edm import EDMTrainable

        return EDMTrainable(edm, conditioner, drop_probability=self.drop_probability, labels=self.labels)

    def prepare(self, trainable: Trainable, batches: Iterable[Batch]) -> None:
        """Measure the statistics by which tokens are standardised."""
        trainable.fit_statistics(batches)


@dataclass(frozen=True, kw_only=True)
class ZoomingEDMStage(EDMStage):
    """A model of condition tokens that may be told the patch above (docs/zoom.md).

    Attributes:
        alone_probability: chance that a sample trains as itself and not as the parent of one of its quarters.
        parent_noise: largest deviation of the noise on a parent's standardised tokens.
    """

    alone_probability: float
    parent_noise: float

    def contradictions(self, ladder: Ladder) -> Iterator[str]:
        yield from super().contradictions(ladder)
        if not 0 < self.alone_probability <= 1:
            yield f"model.alone_probability={self.alone_probability}: expected above 0, at most 1"
        if not self.parent_noise >= 0:
            yield f"model.parent_noise={self.parent_noise}: expected 0 or more"

    def trainable(self, edm: TokenModel, conditioner: Conditioner) -> Trainable:
        from zoomldm.model.zooming import ZoomingEDMTrainable

        return ZoomingEDMTrainable(
            edm,
            conditioner,
            drop_probability=self.drop_probability,
            alone_probability=self.alone_probability,
            parent_noise=self.parent_noise,
            labels=self.labels,
        )


def token_model_of(
    network: Option,
    model: Mapping[str, Any],
    *,
    schedule: Option,
    prediction: Option,
    num_rungs: int,
    num_tokens: int,
    token_dim: int,
    label: Option | None = None,
    label_names: Sequence[str] = (),
) -> TokenModel:
    """Build an untrained model of a conditioner's tokens.

    Args:
        model: width, depth and num_heads, as in ``conf/model/edm.yaml``; other keys are not looked at.
        label, label_names: the kind of labels that it is told and the names of their numbers, where it is told some.
    """
    from zoomldm.diffusion.prediction.base import Prediction
    from zoomldm.diffusion.schedules.base import NoiseSchedule
    from zoomldm.label.base import KnownLabels, Label
    from zoomldm.model.token_model import TokenModel

    return network.make(
        TokenModel,
        num_rungs=num_rungs,
        num_tokens=num_tokens,
        token_dim=token_dim,
        width=model["width"],
        depth=model["depth"],
        heads=model["num_heads"],
        schedule=schedule.make(NoiseSchedule),
        prediction=prediction.make(Prediction),
        label=KnownLabels(label.make(Label), tuple(label_names)) if label else None,
    )


def _takes_labels(network: Option) -> bool:
    """Say whether a network is told labels; its class is asked, which imports torch."""
    from zoomldm.model.token_model import TokenModel

    return "label" in parameters_of(network.target(TokenModel))
