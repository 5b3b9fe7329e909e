"""Numbers of a configuration: one for all magnifications or one each, between what makes sense."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data_prep.fold.regions import RegionSettings
from zoomldm.errors import ConfigError
from zoomldm.ladder import Ladder

MOST = "data.max_patches_per_slide"


def numbers_by_label(values: Any, ladder: Ladder, key: str, low: float, high: float) -> dict[str, float]:
    """Return numbers that lie between two others for every magnification; see ``Ladder.by_label`` and ``number_in``."""
    chosen = ladder.by_label(values, key)
    return {label: number_in(value, f"{key}.{label}", low, high) for label, value in chosen.items()}


def differences(old: Any, new: Any, prefix: str = "") -> list[str]:
    """Return the differing keys of two nested dictionaries as ``key: old there, new now``."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        found = []
        for key in sorted({*old, *new}, key=str):
            found += differences(old.get(key), new.get(key), f"{prefix}.{key}" if prefix else str(key))
        return found
    return [] if old == new else [f"{prefix}: {old} there, {new} now"]


def number_in(value: Any, key: str, low: float, high: float) -> float:
    """Return a number that lies between two others.

    Raises:
        ConfigError: it does not, with its key.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ConfigError(f"{key}={value}: expected a number from {low:g} to {high:g}")
    return value


def regions_of(data: Mapping[str, Any], ladder: Ladder) -> RegionSettings:
    """Return which regions are kept, by a data set's configuration.

    Raises:
        ConfigError: a value that makes no sense, with its key.
    """
    return RegionSettings(
        min_tissue=numbers_by_label(data["min_tissue"], ladder, "data.min_tissue", 0, 1),
        stride=numbers_by_label(data["stride"], ladder, "data.stride", 0.001, 1),
        max_per_slide=_most_of(_without_test(data), ladder, MOST),
    )


def most_of_test(data: Mapping[str, Any], ladder: Ladder) -> dict[str, int | None] | None:
    """Return how many patches of a held-out patient's slide are packed at most; None where nothing is said of them.

    Raises:
        ConfigError: a value that makes no sense, with its key.
    """
    values = data["max_patches_per_slide"]
    if not isinstance(values, Mapping) or values.get("test") is None:
        return None
    return _most_of(values["test"], ladder, f"{MOST}.test")


def _without_test(data: Mapping[str, Any]) -> Any:
    values = data["max_patches_per_slide"]
    return {name: one for name, one in values.items() if name != "test"} if isinstance(values, Mapping) else values


def _most_of(values: Any, ladder: Ladder, key: str) -> dict[str, int | None]:
    found = ladder.by_label(values, key)
    for label, most in found.items():
        if most is not None:
            number_in(most, f"{key}.{label}", 1, 10**9)
    return found
