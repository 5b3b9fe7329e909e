"""Tissue on a thumbnail whose pixels tile the 20x tiles exactly, so that a tile's tissue fraction is a plain mean.

Tissue is where stain makes colour: the chroma of the optical density (largest less smallest channel) above a threshold
by Otsu, held between a floor (else an empty slide's noise would be tissue) and a ceiling (else pale tissue next to dark
would be lost). Pen marks are known by colours that haematoxylin and eosin cannot make, and left out with a margin.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

from data_prep.slides.slide import Slide


@dataclass(frozen=True, kw_only=True)
class TissueSettings:
    """Parameters of the mask.

    Attributes:
        cells_per_tile: mask pixels along a 20x tile; 4 at 32 px tiles and 16 at 256 px are 4 and 8 um a mask pixel.
        chroma_floor, chroma_ceiling: bounds of Otsu's threshold on the chroma of the optical density.
        smooth_um: sigma of the blur before the threshold.
        min_object_um2: smaller pieces of tissue are dropped.
        max_hole_um2: smaller holes in tissue are filled.
        pen: leave pen marks out.
        pen_margin_um: how far around them.
        min_tile: tissue fraction from which a 20x tile is encoded (others are glass in every grid).
        regions: folder of GeoJSON files by slide name; where a slide has one, only its polygons count.
    """

    cells_per_tile: int = 16
    chroma_floor: float = 0.03
    chroma_ceiling: float = 0.04
    smooth_um: float = 8.0
    min_object_um2: float = 40_000.0
    max_hole_um2: float = 40_000.0
    pen: bool = True
    pen_margin_um: float = 60.0
    min_tile: float = 0.1
    regions: str | None = None


# What a preset sets; all else is TissueSettings' own. Docs/data.md says what each is for.
PRESETS: dict[str, dict[str, float]] = {
    "default": {},
    # Stain at a third of the usual chroma still passes; the wider blur holds down the noise that would pass with it.
    "faint": {"chroma_floor": 0.015, "chroma_ceiling": 0.02, "smooth_um": 12.0},
    # Septa of 3 um dilute to a chroma of 0.02 in a mask pixel, and a blur as wide as they are apart would erase them.
    # What they enclose are holes: of one vacuole, or of several whose septa are torn.
    "fatty": {"chroma_floor": 0.015, "chroma_ceiling": 0.02, "smooth_um": 4.0, "max_hole_um2": 250_000.0},
    # A crumb of 70 um; the narrower blur keeps the edge of thin cores.
    "biopsy": {"min_object_um2": 5_000.0, "smooth_um": 4.0},
    "demo": {"min_object_um2": 10_000.0, "smooth_um": 6.0},
}


@dataclass(frozen=True, kw_only=True)
class TissueMask:
    """What a slide's thumbnail shows.

    Attributes:
        mask: (tiles_y * c, tiles_x * c) bool.
        fraction: (tiles_y, tiles_x) float32, tissue fraction of every 20x tile.
        thumbnail: (tiles_y * c, tiles_x * c, 3) uint8.
        glass: (3,) uint8, the median colour of the background.
        pen: fraction of the thumbnail that is pen.
    """

    mask: np.ndarray
    fraction: np.ndarray
    thumbnail: np.ndarray
    glass: np.ndarray
    pen: float


def optical_density(pixels: np.ndarray, white: np.ndarray) -> np.ndarray:
    """Return -log10 of the transmitted light as planes, (h, w, 3) uint8 -> (3, h, w) float32.

    Zero where a pixel is brighter than ``white``.
    """
    values = np.log10(np.arange(256, dtype=np.float32) + 1)
    tables = np.maximum(np.log10(white.astype(np.float32) + 1)[:, None] - values, 0).astype(np.float32)
    return np.stack([tables[channel][pixels[..., channel]] for channel in range(3)])


def chroma_of(planes: np.ndarray) -> np.ndarray:
    """Return largest less smallest of three planes, (3, h, w) -> (h, w)."""
    first, second, third = planes
    return np.maximum(np.maximum(first, second), third) - np.minimum(np.minimum(first, second), third)


def white_of(thumbnail: np.ndarray) -> np.ndarray:
    """Return the colour of clear glass, (3,) float32: the median of the bright pixels that have the least chroma.

    Pure 255 is left out where other bright pixels exist: scanners fill what they did not scan with it.
    """
    low = np.minimum(np.minimum(thumbnail[..., 0], thumbnail[..., 1]), thumbnail[..., 2])
    bright = thumbnail[(low >= 200) & (low < 255)]
    if len(bright) < 0.01 * low.size:
        bright = thumbnail[low >= 200]
    if len(bright) < 16:
        return np.array([255, 255, 255], np.float32)
    chroma = chroma_of(bright.T)
    return np.median(bright[chroma <= np.median(chroma)], axis=0).astype(np.float32)


def pen_of(density: np.ndarray) -> np.ndarray:
    """Return where the optical density, (3, h, w), is ink: (h, w) bool.

    Haematoxylin absorbs green at least as much as red; blue and green inks absorb red most, black ink all alike and
    much, red ink green and blue alike and almost no red.
    """
    red, green, blue = density
    cold = (red > 0.25) & (red > 1.25 * green)
    black = (np.minimum(np.minimum(red, green), blue) > 0.6) & (chroma_of(density) < 0.05 * (red + green + blue))
    warm = (green > 0.7) & (blue > 0.8 * green) & (red < 0.08 * green)
    return cold | black | warm


def chroma_threshold(chroma: np.ndarray, settings: TissueSettings) -> float:
    """Return Otsu's threshold between the settings' floor and ceiling."""
    sample = chroma[:: max(1, chroma.shape[0] // 1024), :: max(1, chroma.shape[1] // 1024)]
    otsu = float(threshold_otsu(sample)) if np.ptp(sample) > 1e-6 else settings.chroma_ceiling
    return float(np.clip(otsu, settings.chroma_floor, settings.chroma_ceiling))


def drop_small(mask: np.ndarray, min_px: float) -> np.ndarray:
    """Drop connected pieces (4 neighbours) of fewer than ``min_px`` pixels."""
    labels, count = ndimage.label(mask)
    if not count or min_px <= 1:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return (sizes >= min_px)[labels]


def tissue_of(thumbnail: np.ndarray, um_per_px: float, settings: TissueSettings) -> tuple[np.ndarray, np.ndarray]:
    """Return the masks of tissue and of pen of a thumbnail, (h, w) bool each."""
    density = optical_density(thumbnail, white_of(thumbnail))
    pen = np.zeros(density.shape[1:], bool)
    if settings.pen:
        pen = drop_small(ndimage.binary_opening(pen_of(density)), settings.min_object_um2 / 4 / um_per_px**2)
        if pen.any():
            pen = ndimage.binary_dilation(pen, iterations=max(1, round(settings.pen_margin_um / um_per_px)))
    chroma = chroma_of(density)
    chroma[pen] = 0
    chroma = ndimage.gaussian_filter(chroma, settings.smooth_um / um_per_px)
    mask = chroma > chroma_threshold(chroma, settings)
    mask = ~drop_small(~mask, settings.max_hole_um2 / um_per_px**2)
    mask = drop_small(mask, settings.min_object_um2 / um_per_px**2)
    return mask & ~pen, pen


def polygons_mask(path, slide: Slide, pitch_px: float, shape: tuple[int, int]) -> np.ndarray:
    """Return the union of a GeoJSON's polygons (level-0 pixels, QuPath's export) on the mask's grid, (h, w) bool.

    Raises:
        DataError: not a GeoJSON.
    """
    import json

    from PIL import Image, ImageDraw

    from zoomldm.errors import DataError

    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        features = content["features"] if isinstance(content, dict) else content
        geometries = [feature.get("geometry", feature) for feature in features]
        polygons = []
        for geometry in geometries:
            many = geometry["type"] == "MultiPolygon"
            polygons += geometry["coordinates"] if many else [geometry["coordinates"]] * (geometry["type"] == "Polygon")
        rings = [[np.asarray(ring, float)[:, :2] for ring in polygon] for polygon in polygons]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OSError) as error:
        raise DataError(f"{path}: not a GeoJSON of polygons ({error!r}); export it from QuPath as GeoJSON") from error
    total = np.zeros(shape, bool)
    origin, pitch = np.asarray(slide.to_px0(0, 0), float), pitch_px * slide.pitch_px0
    for polygon in rings:
        canvas = Image.new("1", (shape[1], shape[0]))
        draw = ImageDraw.Draw(canvas)
        for index, ring in enumerate(polygon):
            draw.polygon([tuple(p) for p in (ring - origin) / pitch], fill=0 if index else 1)
        total |= np.asarray(canvas)
    return total


def find_tissue(slide: Slide, patch_px: int, base_mpp: float, settings: TissueSettings) -> TissueMask:
    """Make the mask of a slide.

    Raises:
        UnreadableError: the level for the thumbnail cannot be decoded.
        DataError: a GeoJSON that is none.
    """
    from pathlib import Path

    cells = min(settings.cells_per_tile, patch_px)
    pitch_px = patch_px / cells
    tiles_x, tiles_y = -(-slide.width_px // patch_px), -(-slide.height_px // patch_px)
    thumbnail = slide.thumbnail(pitch_px, (tiles_x * cells, tiles_y * cells))
    um_per_px = pitch_px * base_mpp
    mask, pen = tissue_of(thumbnail, um_per_px, settings)
    inside = np.zeros(mask.shape, bool)
    inside[: int(slide.height_px / pitch_px), : int(slide.width_px / pitch_px)] = True
    mask &= inside
    if settings.regions:
        path = Path(settings.regions) / f"{slide.spec.name}.geojson"
        if path.is_file():
            mask &= polygons_mask(path, slide, pitch_px, mask.shape)
    background = thumbnail[inside & ~mask & ~pen]
    bright = background[background.min(1) >= 180][:: max(1, len(background) // 200_000)]
    glass = np.median(bright, axis=0) if len(bright) else white_of(thumbnail)
    fraction = mask.reshape(tiles_y, cells, tiles_x, cells).mean((1, 3), dtype=np.float32)
    return TissueMask(
        mask=mask,
        fraction=fraction,
        thumbnail=thumbnail,
        glass=np.round(glass).astype(np.uint8),
        pen=float(pen.mean()),
    )
