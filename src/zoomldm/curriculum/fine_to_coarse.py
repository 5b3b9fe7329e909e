"""`fine_to_coarse`: high magnifications first."""

from __future__ import annotations

from zoomldm.curriculum.coarse_to_fine import CoarseToFine


class FineToCoarse(CoarseToFine):
    """Begin with high magnifications and end uniform: the mirror image of `CoarseToFine`."""

    direction = -1.0
