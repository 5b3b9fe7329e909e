"""The magnification ladder: rung k ↔ magnification, mpp and pixels. Imports nothing of ours but the errors."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from zoomldm.errors import ConfigError


@dataclass(frozen=True)
class Rung:
    """One magnification: its patch covers ``region_px`` base pixels a side, or ``grid_side`` base tiles a side."""

    index: int
    magnification: float
    mpp: float
    grid_side: int
    region_px: int

    @property
    def label(self) -> str:
        return label(self.magnification)


@dataclass(frozen=True)
class Ladder:
    """Rungs k = 0..K-1 at magnification base/2^k (paper, section 3.2: 20x down to 0.15625x, 256 px patches).

    Attributes:
        patch_px: side of every patch, at every magnification.
        num_rungs: how many magnifications.
        base_magnification: that of rung 0.
        base_mpp: micrometres a pixel of rung 0.
    """

    patch_px: int
    num_rungs: int
    base_magnification: float
    base_mpp: float

    def __post_init__(self) -> None:
        for name, low, high in (("patch_px", 8, 4096), ("num_rungs", 1, 12)):
            value = getattr(self, name)
            if not isinstance(value, int) or not low <= value <= high:
                raise ConfigError(f"data.ladder.{name}={value}: expected a whole number from {low} to {high}")
        for name in ("base_magnification", "base_mpp"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"data.ladder.{name}={getattr(self, name)}: expected a number above 0")

    @cached_property
    def rungs(self) -> tuple[Rung, ...]:
        return tuple(
            Rung(
                index=k,
                magnification=self.base_magnification / 2**k,
                mpp=self.base_mpp * 2**k,
                grid_side=2**k,
                region_px=self.patch_px * 2**k,
            )
            for k in range(self.num_rungs)
        )

    def __getitem__(self, index: int) -> Rung:
        return self.rungs[index]

    def __len__(self) -> int:
        return self.num_rungs

    @property
    def magnifications(self) -> tuple[float, ...]:
        return tuple(rung.magnification for rung in self.rungs)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(rung.label for rung in self.rungs)

    def rung_of(self, magnification: float | str) -> Rung:
        """Return the rung of a magnification given as ``0.3125``, ``"0.3125"`` or ``"0.3125x"``.

        Raises:
            ConfigError: the ladder has no such magnification; the message lists those it has.
        """
        try:
            value = float(str(magnification).strip().rstrip("xX×"))
        except ValueError:
            value = float("nan")
        for rung in self.rungs:
            if abs(rung.magnification - value) <= 1e-6 * rung.magnification:
                return rung
        raise ConfigError(
            f"magnification={magnification}: not on this ladder; expected one of "
            + ", ".join(f"{m:g}" for m in self.magnifications)
        )

    def by_label(self, values: Any, key: str) -> dict[str, Any]:
        """Return a setting for every magnification: one value, or a mapping {magnification: value, default: value}.

        Args:
            key: of the setting, for messages.

        Raises:
            ConfigError: a magnification that is not on the ladder, or one that the mapping says nothing of.
        """
        if not isinstance(values, Mapping):
            return dict.fromkeys(self.labels, values)
        chosen = dict.fromkeys(self.labels, values["default"]) if "default" in values else {}
        for magnification, value in values.items():
            if magnification != "default":
                try:
                    chosen[self.rung_of(magnification).label] = value
                except ConfigError as error:
                    raise ConfigError(f"{key}: {error}") from error
        missing = [label for label in self.labels if label not in chosen]
        if missing:
            raise ConfigError(f"{key}: nothing for {', '.join(missing)}; give values, or one for all others as default")
        return {label: chosen[label] for label in self.labels}

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


PAPER_LADDER = Ladder(patch_px=256, num_rungs=8, base_magnification=20.0, base_mpp=0.5)
"""Of the paper's models and of its published weights, which do not say it themselves."""


def label(magnification: float) -> str:
    """Return the name of a magnification in folders, tables and pictures: ``20x``, ``0.15625x``."""
    return f"{magnification:.10g}x"
