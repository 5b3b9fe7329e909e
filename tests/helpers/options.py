"""Objects of the options in conf/, some of their values changed."""

from typing import Any

import yaml

from zoomldm.cond.base import Conditioner
from zoomldm.config import CONF, option_of
from zoomldm.curriculum.base import Curriculum
from zoomldm.diffusion.schedules.base import NoiseSchedule
from zoomldm.diffusion.solvers.base import Solver
from zoomldm.model.autoencoder import Autoencoder
from zoomldm.model.vq_training import VQTraining


def make_schedule(name: str = "scaled_linear", **changed: Any) -> NoiseSchedule:
    return option_of("schedule", name, **changed).make(NoiseSchedule)


def make_solver(name: str = "ddim", **changed: Any) -> Solver:
    return option_of("solver", name, **changed).make(Solver)


def make_conditioner(name: str, **values: Any) -> Conditioner:
    """Make a conditioner; values: its sizes as well, which the YAML leaves to the model."""
    return option_of("cond", name, **values).make(Conditioner)


def make_curriculum(name: str, counts: Any, **values: Any) -> Curriculum:
    return option_of("curriculum", name, **values).make(Curriculum, counts=counts)


def make_vq_training(autoencoder: Autoencoder, **changed: Any) -> VQTraining:
    """Train as model=autoencoder does, with steps of the codebook for a test of a few."""
    told = model_section("autoencoder")["model"]["loss"] | {"revive_every": 50} | changed
    return VQTraining(autoencoder, **{key: value for key, value in told.items() if key != "_target_"})


def model_section(name: str) -> dict[str, Any]:
    """Return what conf/model/NAME.yaml says itself."""
    return yaml.safe_load((CONF / "model" / f"{name}.yaml").read_text())
