"""The model that ships, beside a run that is evaluated."""

from __future__ import annotations

from functools import partial

from zoomldm.errors import UserError
from zoomldm.evaluation.bench import ShippedModel
from zoomldm.sampling.generator import PatchGenerator
from zoomldm.stages.packed import PackedModel, shipped
from zoomldm.stages.trained import HowToSample, TrainedModels


def shipped_model(trained: TrainedModels, how: HowToSample) -> ShippedModel:
    """Return the model that ships, for a row of a run's evaluation: on the run's data, sampled in its own way."""
    packed, root = shipped(), str(trained.manifest.root)
    make = partial(_generator, packed, trained, root, HowToSample(seed=how.seed, compute=how.compute))
    try:
        packed.require_data(trained.manifest)
        return ShippedModel(why_not=None, identity=packed.sha256, make=make)
    except UserError as error:
        return ShippedModel(why_not=str(error), identity={}, make=make)


def _generator(packed: PackedModel, trained: TrainedModels, root: str, how: HowToSample) -> PatchGenerator:
    return packed.load(trained.run.folder.parent, data_root=root, wants_edm=False).generator(how)
