"""Settings for tests, which name what they are about and leave the rest to conf/ or to small numbers."""

from typing import Any

import yaml

from zoomldm.config import CONF
from zoomldm.ladder import Ladder
from zoomldm.launch.settings import FabricSettings
from zoomldm.training.settings import LoopSettings, OptimSettings


def make_ladder(
    patch_px: int = 256, num_rungs: int = 8, base_magnification: float = 20.0, base_mpp: float = 0.5
) -> Ladder:
    """Return a ladder, the paper's where nothing else is said."""
    return Ladder(patch_px, num_rungs, base_magnification, base_mpp)


def fabric_settings(**given: Any) -> FabricSettings:
    """Return the settings of fabric=auto, with others where given."""
    return FabricSettings(**yaml.safe_load((CONF / "fabric" / "auto.yaml").read_text()) | given)


def loop_settings(**given: Any) -> LoopSettings:
    """Return a loop of given ``steps`` that shows and keeps nothing on its way unless told so."""
    never = dict.fromkeys(("validate_every", "sample_every", "checkpoint_every", "keep_every"))
    return LoopSettings(**{"log_every": 4, "validation_samples": 64} | never | given)


def optim_settings(**given: Any) -> OptimSettings:
    """Return a constant rate with nothing added to it."""
    constant = {"warmup_steps": 0, "schedule": "constant", "weight_decay": 0.0, "betas": (0.9, 0.999)}
    return OptimSettings(**constant | {"clip_norm": None, "ema_decay": 0.9999} | given)
