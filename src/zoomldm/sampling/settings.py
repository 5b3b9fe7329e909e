"""How a diffusion model is sampled: solver, steps and guidance. Importing this imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoomldm.errors import ConfigError

if TYPE_CHECKING:
    from zoomldm.config import Option
    from zoomldm.diffusion.guidance import Interval
    from zoomldm.diffusion.solvers.base import Solver
    from zoomldm.ladder import Ladder

SCALE, INTERVAL = "sampling.guidance_scale", "sampling.guidance_interval"
EDM_SCALE = "sampling.edm_guidance_scale"


@dataclass(frozen=True, kw_only=True, repr=False)
class Sampling:
    """How a diffusion model is sampled.

    Attributes:
        guidance_scale: of all magnifications, or of each, by its rung.
        guidance_interval: parts of the noise's timesteps between which there is guidance; None: at all of them.
    """

    solver: Solver
    steps: int
    guidance_scale: float | tuple[float, ...]
    guidance_interval: Interval | None

    def __repr__(self) -> str:
        """Say what tells one way from another; without an interval as it was said before there was one."""
        interval = "" if self.guidance_interval is None else f", guidance_interval={self.guidance_interval!r}"
        told = f"solver={self.solver!r}, steps={self.steps!r}, guidance_scale={self.guidance_scale!r}"
        return f"Sampling({told}{interval})"

    @classmethod
    def of(cls, said: Mapping[str, Any], *, solver: Option, ladder: Ladder) -> Sampling:
        """Return it as a configuration says it: steps, guidance_scale and guidance_interval.

        Raises:
            ConfigError: guidance that makes no sense.
        """
        from zoomldm.diffusion.solvers.base import Solver

        return cls(
            solver=solver.make(Solver),
            steps=said["steps"],
            guidance_scale=scales_of(said["guidance_scale"], ladder),
            guidance_interval=interval_of(said["guidance_interval"]),
        )

    def scale_at(self, rung: int) -> float:
        """Return the guidance of a magnification."""
        return scale_at(self.guidance_scale, rung)

    def options(self, seed: int, rung: int) -> dict[str, Any]:
        """Return the keywords of a model's ``sample`` at a magnification."""
        return {
            "seed": seed,
            "solver": self.solver,
            "num_steps": self.steps,
            "guidance_scale": self.scale_at(rung),
            "guidance_interval": self.guidance_interval,
        }

    def facts(self, rung: int | None = None) -> dict[str, Any]:
        """Return it as JSON values for reports and identities: of all magnifications, or of one."""
        interval = {} if self.guidance_interval is None else {"guidance interval": list(self.guidance_interval)}
        scale = self.guidance_scale if rung is None else self.scale_at(rung)
        return {
            "solver": repr(self.solver),
            "sampling steps": self.steps,
            "guidance scale": list(scale) if isinstance(scale, tuple) else scale,
            **interval,
        }


def scale_at(scale: float | Sequence[float], rung: int) -> float:
    """Return the guidance of a magnification: the same of all, or one a rung."""
    return scale[rung] if isinstance(scale, (tuple, list)) else scale


def scales_of(values: Any, ladder: Ladder, key: str = SCALE) -> float | tuple[float, ...]:
    """Return the guidance of all magnifications or of each by its rung, said as a number or by magnification.

    Args:
        key: that says them.

    Raises:
        ConfigError: no numbers above 0, or a magnification off the ladder.
    """
    by_label = ladder.by_label(values, key)
    for label, value in by_label.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
            said = f"{key}.{label}" if isinstance(values, Mapping) else key
            raise ConfigError(f"{said}={value}: expected a number above 0")
    scales = tuple(map(float, by_label.values()))
    return scales if len({*scales}) > 1 else scales[0]


def interval_of(values: Any) -> Interval | None:
    """Return the parts of the noise between which there is guidance.

    Raises:
        ConfigError: they are none.
    """
    if values is None:
        return None
    are_numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    if not are_numbers or len(values) != 2 or not 0 <= values[0] < values[1] <= 1:
        raise ConfigError(
            f"{INTERVAL}={list(values)}: expected two parts of the noise, the smaller first, from 0 (none) to 1 (all): "
            "[0.2,0.8]"
        )
    return float(values[0]), float(values[1])
