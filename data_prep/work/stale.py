"""Whether a slide's work is still what its file, its line of the table and its drawn regions would give."""

import os
from pathlib import Path
from typing import Any

from data_prep.slides.files import quick_hash, stamp_of
from data_prep.slides.scale import GIVEN, SPARE
from data_prep.slides.table import SlideSpec
from data_prep.tissue.geojson import drawn_path
from data_prep.work.state import WORK_VERSION, DoneSlide
from zoomldm.errors import DataError
from zoomldm.files import sha256_of

TOLD = {"regions_sha256": "annotation", "tissue": "tissue preset", "icc": "use of the colour profile"}
"""What ``told_of`` tells, in words."""


def why_stale(state: DoneSlide, spec: SlideSpec, *, by_area: bool, regions: str | None) -> str:
    """Return what has changed since the work was done, in words; "" where it is good.

    Work of older versions, which did not note the drawn regions, is good if file and scale are the same.
    """
    if state.work_version != WORK_VERSION:
        return f"work version {state.work_version} there, {WORK_VERSION} now"
    if not has_scale_of(state, spec):
        return f"its scale was {state.scale.mpp_level0:g}, and the table or slide.mpp says another now"
    if state.told is not None:
        told = {name: value for name, value in state.told.items() if name != "mpp"}  # older versions' scale
        now = told_of(spec, regions=regions)
        if now != told:
            changed = [words for name, words in TOLD.items() if now.get(name) != told.get(name)]
            return f"its {' and '.join(changed)} {'is another' if len(changed) == 1 else 'are others'}"
        if by_area != state.by_area:
            return "it was read to serve both splits" if state.by_area else "it is to serve both splits"
    return "" if is_file_of(state, spec.path) else "its file is another"


def is_file_of(state: DoneSlide, path: Path) -> bool:
    """Say whether a file is the one that the work was done of; one that is gone is taken for it."""
    try:
        size, mtime_ns = stamp_of(path)
        if size != state.file.bytes:
            return False
        return mtime_ns == state.file.mtime_ns or quick_hash(path) == state.file.quick_hash
    except (OSError, DataError):
        return True  # the slide has been moved away since: its work is still good


def told_of(spec: SlideSpec, *, regions: str | None) -> dict[str, Any]:
    """Return what decides a slide's work besides its file, its scale and the folder's settings.

    regions: folder of GeoJSON files by slide name.
    """
    told = {
        "regions_sha256": _hash_of(drawn_path(regions, spec.name)) if regions else None,
        "tissue": spec.tissue,
        "icc": spec.icc,
    }
    return {name: value for name, value in told.items() if value is not None}


def _hash_of(drawn: Path) -> str | None:
    """Return a hash of a file of regions, None without one; one that cannot be read is another than it was."""
    try:
        return sha256_of(drawn) if os.path.lexists(drawn) else None
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def has_scale_of(state: DoneSlide, spec: SlideSpec) -> bool:
    """Say whether a slide was read at the scale that its line of the table gives now."""
    if spec.mpp is not None:
        return state.scale.mpp_level0 == spec.mpp
    return state.scale.source not in (GIVEN, SPARE) or state.scale.mpp_level0 == spec.spare_mpp
