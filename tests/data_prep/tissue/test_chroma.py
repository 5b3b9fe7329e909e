"""The segmenter that needs no weights, and its options."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import cKDTree

from data_prep.tissue.density import chroma_of, optical_density, white_of
from tests.helpers.tiny_slides import GLASS, SMALL_TISSUE, segmenter, tissue_pixels

PRESETS = ("default", "faint", "fatty", "biopsy", "demo")


def test_the_mask_finds_the_ellipse():
    mask, pen = segmenter(**SMALL_TISSUE).segment(tissue_pixels(160, 120), 4.0)
    y, x = np.mgrid[0:120, 0:160]
    truth = ((x / 160 - 0.5) ** 2 + (y / 120 - 0.5) ** 2) < 0.38**2
    assert (mask & truth).sum() / (mask | truth).sum() > 0.9
    assert not pen.any()


def test_clean_glass_has_no_tissue_and_no_pen():
    glass = np.clip(np.random.default_rng(0).normal(GLASS, 1, (120, 160, 3)), 0, 255).astype(np.uint8)
    mask, pen = segmenter(**SMALL_TISSUE).segment(glass, 4.0)
    assert not mask.any()
    assert not pen.any()


def test_yellowish_light_is_not_tissue():
    """The white point is the slide's own."""
    tinted = (tissue_pixels(160, 120).astype(float) * [1.0, 0.97, 0.9]).astype(np.uint8)
    mask, _ = segmenter(**SMALL_TISSUE).segment(tinted, 4.0)
    assert not mask[:8].any()
    assert mask[60, 80]


def test_specks_are_dropped_and_holes_filled():
    image = tissue_pixels(160, 120)
    image[4:6, 4:6] = (150, 80, 150)
    image[58:61, 79:82] = GLASS
    mask, _ = segmenter(min_object_um2=400.0, max_hole_um2=4000.0, smooth_um=2.0).segment(image, 4.0)
    assert not mask[:10, :10].any()
    assert mask[59, 80]


def fatty_picture(*, um_per_px, septum_um, seed=0):
    """Return a thumbnail of a 1.6 x 1 mm piece on glass, its dense left part, and its adipose rest (both eroded).

    Drawn at 1 um a pixel: vacuoles of 75 um on average (30 to 120) as clear as glass, and pink between them.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:1600, 0:2400]
    rows, columns = np.mgrid[0:1600:65, 0:2400:75]
    centres = np.stack([rows, columns + (rows // 65 % 2) * 37.5], -1).reshape(-1, 2) + rng.uniform(-16, 16, (800, 2))
    near, second = np.moveaxis(cKDTree(centres).query(np.stack([y, x], -1), k=2)[0], -1, 0)
    vacuole = (second - near > septum_um) & (near < 60)
    piece = (np.abs(y - 800) < 500) & (np.abs(x - 1200) < 800)
    dense = piece & (x < 900)
    adipose = piece & ~dense
    areas = np.bincount(ndimage.label(vacuole & adipose)[0].ravel())[1:]
    stained = dense | (adipose & ~vacuole)
    noise = rng.normal(0, 0.8, (1600, 2400, 1)) + rng.normal(0, 4, (1600, 2400, 1)) * stained[..., None]
    pixels = np.clip(np.where(stained[..., None], (226, 150, 190), GLASS) + noise, 0, 255)

    def mean(values):
        k = um_per_px
        return values.reshape(1600 // k, k, 2400 // k, k, -1).mean((1, 3))

    inner = [ndimage.binary_erosion(part, iterations=20) for part in (dense, adipose)]
    return np.round(mean(pixels)).astype(np.uint8), *(mean(part)[..., 0] == 1 for part in inner), areas


@pytest.mark.parametrize("um_per_px", [4, 8])
def test_fat_is_glass_by_default_and_tissue_as_fatty(um_per_px):
    image, dense, adipose, areas = fatty_picture(um_per_px=um_per_px, septum_um=3)
    diameters = np.sqrt(areas * 4 / np.pi)
    assert np.percentile(diameters, 10) > 30
    assert diameters.max() < 120
    default, _ = segmenter("default").segment(image, um_per_px)
    fatty, _ = segmenter("fatty").segment(image, um_per_px)
    assert default[dense].mean() > 0.99
    assert fatty[dense].mean() > 0.99
    assert default[adipose].mean() < 0.05
    assert fatty[adipose].mean() > 0.9
    assert not fatty[: 200 // um_per_px].any()  # glass stays glass


def test_pale_stain_is_tissue_as_faint_and_clean_glass_is_not():
    rng = np.random.default_rng(0)
    stained = tissue_pixels(160, 120).astype(float)
    pale = np.array(GLASS) + (stained - GLASS) * 0.17 + rng.normal(0, 0.6, stained.shape)
    image = np.clip(pale, 0, 255).round().astype(np.uint8)
    assert not segmenter("default").segment(image, 8.0)[0].any()
    mask, _ = segmenter("faint").segment(image, 8.0)
    truth, _ = segmenter("default").segment(tissue_pixels(160, 120), 8.0)
    assert (mask & truth).sum() / (mask | truth).sum() > 0.9
    glass = np.clip(rng.normal(GLASS, 1, (120, 160, 3)), 0, 255).astype(np.uint8)
    for name in PRESETS:
        assert not segmenter(name).segment(glass, 8.0)[0].any()


def test_biopsy_keeps_crumbs_that_default_drops():
    image = np.full((120, 160, 3), GLASS, np.uint8)
    image[20:60, 20:140] = (180, 90, 150)
    image[80:92, 30:42] = (180, 90, 150)  # 96 um a side
    image[80:84, 90:94] = (180, 90, 150)  # 32 um a side: dirt
    default, biopsy = (segmenter(name).segment(image, 8.0)[0] for name in ("default", "biopsy"))
    assert default[40, 80]
    assert biopsy[40, 80]
    assert biopsy[86, 36]
    assert not default[70:].any()
    assert not biopsy[70:, 80:].any()


@pytest.mark.parametrize(("part", "expected"), [(1.0, 0.04), (0.35, 0.03)])
def test_otsu_says_whether_the_stain_has_faded(part, expected):
    """A third of the stain is found at the floor, which is more of it than the ceiling finds."""
    stained = tissue_pixels(320, 240).astype(float)
    image = np.clip(np.array(GLASS) + (stained - GLASS) * part, 0, 255).round().astype(np.uint8)
    chroma = ndimage.gaussian_filter(chroma_of(optical_density(image, white_of(image))), 1)
    default = segmenter("default")
    assert default.threshold(chroma) == expected
    fixed = segmenter("default", chroma_floor=0.04)
    found, at_ceiling = (one.segment(image, 8.0)[0].sum() for one in (default, fixed))
    assert (found > at_ceiling) == (expected < default.chroma_ceiling)
