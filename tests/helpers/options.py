"""Objects of the options in conf/, some of their values changed."""

from typing import Any

import yaml

from zoomldm.cond.base import Conditioner
from zoomldm.config import CONF, option_of
from zoomldm.curriculum.base import Curriculum
from zoomldm.diffusion.prediction.base import Prediction
from zoomldm.diffusion.schedules.base import NoiseSchedule
from zoomldm.diffusion.solvers.base import Solver
from zoomldm.model.autoencoder import VQAutoencoder
from zoomldm.model.kl import KLAutoencoder
from zoomldm.model.kl_training import KLTraining
from zoomldm.model.vq_training import VQTraining


def make_schedule(name: str = "scaled_linear", **changed: Any) -> NoiseSchedule:
    return option_of("schedule", name, **changed).make(NoiseSchedule)


def make_prediction(name: str = "eps", **changed: Any) -> Prediction:
    return option_of("prediction", name, **changed).make(Prediction)


def make_solver(name: str = "ddim", **changed: Any) -> Solver:
    return option_of("solver", name, **changed).make(Solver)


def make_conditioner(name: str, **values: Any) -> Conditioner:
    """Make a conditioner; values: its sizes as well, which the YAML leaves to the model."""
    return option_of("cond", name, **values).make(Conditioner)


def make_curriculum(name: str, counts: Any, **values: Any) -> Curriculum:
    return option_of("curriculum", name, **values).make(Curriculum, counts=counts)


def make_vq_training(autoencoder: VQAutoencoder, **changed: Any) -> VQTraining:
    """Train as model=autoencoder does, without further networks, with steps of the codebook for a test of a few."""
    return VQTraining(autoencoder, **_loss("autoencoder") | {"revive_every": 50} | changed)


def make_kl_training(autoencoder: KLAutoencoder, **changed: Any) -> KLTraining:
    """Train as model=autoencoder_kl does, without further networks."""
    of_kl = model_section("autoencoder_kl")["model"]["loss"]
    terms = {key: value for key, value in (_loss("autoencoder") | of_kl).items() if value is not None}
    terms |= {"perceptual": None, "adversarial": None}
    return KLTraining(autoencoder, **{key: value for key, value in terms.items() if key != "_target_"} | changed)


def _loss(name: str) -> dict[str, Any]:
    told = model_section(name)["model"]["loss"] | {"perceptual": None, "adversarial": None}
    return {key: value for key, value in told.items() if key != "_target_"}


def model_section(name: str) -> dict[str, Any]:
    """Return what conf/model/NAME.yaml says itself."""
    return yaml.safe_load((CONF / "model" / f"{name}.yaml").read_text())
