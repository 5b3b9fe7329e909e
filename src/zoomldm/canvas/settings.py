"""What a user decides about a slide's drawing. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass

from zoomldm.sampling.settings import Sampling


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How a level is held to the one above.

    Attributes:
        start: the level begins as the enlarged parent with this part of the noise's timesteps above it; 1: from noise.
        until: the correction is made while the timestep is above this part of all; 1: never, 0: to the end.
        reach: parent pixels along the side of the areas that have to agree: 1 holds every one; 2 leaves the finest
            detail of the parent, which is the least certain, to the child.
        final: corrections in pixels at the end; 0: none.
    """

    start: float
    until: float
    reach: int
    final: int


@dataclass(frozen=True, kw_only=True)
class LevelSettings:
    """How the patches of a level are drawn."""

    sampling: Sampling
    agreement: Agreement


def is_coarse(magnification: float, to: float | None) -> bool:
    """Say whether a level is one of the coarse, of which ``to`` is the finest; None: there are none."""
    return to is not None and magnification <= to


@dataclass(frozen=True, kw_only=True)
class Inversion:
    """How the tokens of an image are found that is too coarse to be embedded, or partly unknown.

    Attributes:
        steps: of Adam; rate: its first learning rate, for standardised tokens.
        draws: noise levels a step and patch.
        prior: weight of the distance to what the embedding diffusion model makes of the tokens.
    """

    steps: int
    rate: float
    draws: int
    prior: float


@dataclass(frozen=True, kw_only=True)
class Glass:
    """What counts as glass; a model of tissue has never seen a patch of it alone.

    Attributes:
        brightness: least grey level (0 to 255) of each pixel above; chroma: largest difference between its channels.
    """

    brightness: float
    chroma: float
