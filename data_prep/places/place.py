"""Places on a slide, each embedded as preparation embeds its regions: the same reads, fold, encoder and numbers."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_prep.fold.quadtree import crop_cells, union_of
from data_prep.fold.regions import RungRegions, corners, stride_tiles, window_mean
from data_prep.pack.slide_work import final_rows
from data_prep.settings import SlideSettings
from data_prep.slides.table import SlideSpec
from data_prep.work.read_slide import Layout, find_mask, open_slide, read_slide, tiles_to_encode
from zoomldm.data.manifest import EncoderInfo
from zoomldm.data.schema import SampleMeta, make_key
from zoomldm.encoder.base import Encoder
from zoomldm.errors import DataError
from zoomldm.ladder import Rung
from zoomldm.sampling.sources.base import Overview


@dataclass(frozen=True, kw_only=True)
class Place:
    """A region of a slide.

    Attributes:
        y, x: its corner, in tiles.
        tissue: part of it that is tissue.
    """

    rung: Rung
    y: int
    x: int
    tissue: float


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """A region's grid, float16 (S, S, D), its patch, uint8 (p, p, 3), and what a shard would say of it."""

    grid: np.ndarray
    patch: np.ndarray
    meta: SampleMeta


class SlidePlaces:
    """An open slide, whose regions are embedded one by one.

    Args:
        info: what the data set says of its encoder, with the statistics that its rows are standardised with.
        encode_all: encode tiles without tissue too.

    Raises:
        DataError: cannot be opened or read, has no usable scale, is coarser than the ladder's base.
    """

    def __init__(
        self, spec: SlideSpec, settings: SlideSettings, encoder: Encoder, info: EncoderInfo, *, encode_all: bool = False
    ) -> None:
        self.spec, self.settings, self.encoder, self.info = spec, settings, encoder, info
        self.encode_all = encode_all
        self.slide = open_slide(spec, settings)
        self.mask = find_mask(self.slide, settings)

    def holds(self, x_px0: float, y_px0: float) -> bool:
        """Say whether a level-0 pixel lies on the slide's scanned area."""
        x_px, y_px = self.slide.to_px(x_px0, y_px0)
        return 0 <= x_px < self.slide.width_px and 0 <= y_px < self.slide.height_px

    def around(self, rung: Rung, x_px0: float, y_px0: float, *, inside: bool = False) -> Place:
        """Return the region whose middle lies next to a level-0 pixel, of those that preparation could make.

        Args:
            inside: of those without anything beyond the slide's edge.
        """
        p, shape = self.settings.ladder.patch_px, self.mask.fraction.shape
        grain = stride_tiles(rung, 0.0, p)
        corner = []
        for middle_px, num_tiles, size_px in zip(
            self.slide.to_px(x_px0, y_px0), shape[::-1], (self.slide.width_px, self.slide.height_px), strict=True
        ):
            last = int(corners(num_tiles, rung.grid_side, grain)[-1])
            if inside:
                last = (size_px - rung.region_px) // (p * grain) * grain
            nearest = round((middle_px - rung.region_px / 2) / (p * grain)) * grain
            corner.append(min(max(0, nearest), last))
        x, y = corner
        tissue = window_mean(self.mask.fraction, np.array([y]), np.array([x]), rung.grid_side)
        return Place(rung=rung, y=y, x=x, tissue=float(tissue[0]))

    def side_by_side(self, middle: Place, rungs: Sequence[Rung], rows: int, columns: int) -> list[list[Place]]:
        """Return ``rows`` x ``columns`` regions of the first rung around one of it, and those that they are made of.

        Returns:
            of each rung its regions, row by row.

        Raises:
            DataError: the slide has no room for them.
        """
        p, side, corner = self.settings.ladder.patch_px, rungs[0].grid_side, []
        grain = stride_tiles(rungs[0], 0.0, p)
        for first, num, size_px in (
            (middle.y, rows, self.slide.height_px),
            (middle.x, columns, self.slide.width_px),
        ):
            last = (size_px // p - num * side) // grain * grain
            if last < 0:
                raise DataError(
                    f"{self.spec.path}: {rows} x {columns} regions of {rungs[0].label} have {rows * side * p} x "
                    f"{columns * side * p} px, and it has {self.slide.height_px} x {self.slide.width_px}; choose fewer "
                    "(roots=) or a higher magnification (root=)"
                )
            corner.append(min(max(0, first - (num - 1) * side // 2), last))
        return [self._covering(rung, *corner, rows * side, columns * side) for rung in rungs]

    def _covering(self, rung: Rung, top: int, left: int, height: int, width: int) -> list[Place]:
        """Return a rung's regions that cover a rectangle of tiles, row by row."""
        side = rung.grid_side
        ys, xs = (np.arange(first, first + length, side) for first, length in ((top, height), (left, width)))
        y, x = (grid.ravel() for grid in np.meshgrid(ys, xs, indexing="ij"))
        tissue = window_mean(self.mask.fraction, y, x, side)
        return [Place(rung=rung, y=int(a), x=int(b), tissue=float(t)) for a, b, t in zip(y, x, tissue, strict=True)]

    def overview(self, side_px: int) -> Overview:
        """Return the scanned area, about ``side_px`` on its longer side; a smaller one as it is."""
        slide = self.slide
        pitch_px = max(1.0, max(slide.width_px, slide.height_px) / side_px)
        size = tuple(max(1, int(whole / pitch_px)) for whole in (slide.width_px, slide.height_px))
        left_px0, top_px0 = slide.to_px0(0, 0)
        return Overview(
            image=slide.thumbnail(pitch_px, size),
            left_px0=left_px0,
            top_px0=top_px0,
            pitch_px0=pitch_px * slide.pitch_px0,
        )

    def embed(self, places: Sequence[Place]) -> list[Embedded]:
        """Read some regions at once and encode their tiles.

        Raises:
            DataError: a part of them cannot be decoded.
        """
        regions, patches = self._regions(places), {}
        encode = union_of(regions, self.mask.fraction.shape)
        if not self.encode_all:
            encode = tiles_to_encode(self.mask, regions, self.settings)
        layout = Layout(mask=self.mask, regions=regions, encode=encode)

        def keep(rung: int, row: int, patch: np.ndarray) -> None:
            patches[rung, row] = patch.copy()

        encoded = read_slide(self.slide, self.settings, layout, self.encoder, keep)
        self.slide.check_unchanged()
        if len(patches) < len(places):
            raise DataError(f"{self.spec.path}: a part of the region cannot be decoded; choose another place")
        rows, found, num_found = final_rows(encoded.rows, self.info.statistics), [], Counter[int]()
        for place in places:
            grid = rows[crop_cells(encoded.cells, place.y, place.x, place.rung.grid_side)]
            patch = patches[place.rung.index, num_found[place.rung.index]]
            found.append(Embedded(grid=grid, patch=patch, meta=self._meta(place)))
            num_found[place.rung.index] += 1
        return found

    def _regions(self, places: Sequence[Place]) -> list[RungRegions]:
        """Return the regions by rung, each rung's in their order."""

        def at(rung: Rung) -> RungRegions:
            own = [place for place in places if place.rung == rung]
            y, x = (np.array([getattr(place, axis) for place in own], int) for axis in "yx")
            return RungRegions(rung=rung, stride=1, y=y, x=x, tissue=np.array([place.tissue for place in own], float))

        return [at(rung) for rung in self.settings.ladder.rungs]

    def _meta(self, place: Place) -> SampleMeta:
        rung, p = place.rung, self.settings.ladder.patch_px
        x_px0, y_px0 = self.slide.to_px0(place.x * p, place.y * p)
        return SampleMeta(
            key=make_key(self.spec.name, rung.grid_side, x_px0, y_px0),
            magnification=rung.magnification,
            slide=self.spec.name,
            patient=self.spec.patient,
            split=self.spec.split or "",
            x_px0=x_px0,
            y_px0=y_px0,
            region_px0=round(rung.region_px * self.slide.pitch_px0),
            mpp_nominal=rung.mpp,
            mpp_true=rung.mpp * self.slide.scale.mpp_true / self.settings.ladder.base_mpp,
            tissue=round(place.tissue, 6),
            labels=self.spec.labels,
        )
