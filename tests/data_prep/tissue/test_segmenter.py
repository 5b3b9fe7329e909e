import json
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from scipy import ndimage
from scipy.spatial import cKDTree

from data_prep.settings import from_config
from data_prep.tissue.segmenter import (
    PRESETS,
    TissueSettings,
    find_tissue,
    optical_density,
    pen_of,
    tissue_of,
    white_of,
)
from tests.helpers.tiny_slides import GLASS, open_slide, tissue_pixels
from zoomldm.cli import compose_jobs
from zoomldm.errors import ConfigError, DataError

ROOT = Path(__file__).resolve().parents[3]

SETTINGS = TissueSettings(cells_per_tile=4, min_object_um2=100.0, max_hole_um2=100.0, smooth_um=4.0)


def thumbnail(*, margin=0.12):
    return tissue_pixels(160, 120, margin=margin)


def test_the_mask_finds_the_ellipse():
    mask, pen = tissue_of(thumbnail(), 4.0, SETTINGS)
    y, x = np.mgrid[0:120, 0:160]
    truth = ((x / 160 - 0.5) ** 2 + (y / 120 - 0.5) ** 2) < 0.38**2
    assert (mask & truth).sum() / (mask | truth).sum() > 0.9
    assert not pen.any()


def test_clean_glass_has_no_tissue_and_no_pen():
    glass = np.clip(np.random.default_rng(0).normal(GLASS, 1, (120, 160, 3)), 0, 255).astype(np.uint8)
    mask, pen = tissue_of(glass, 4.0, SETTINGS)
    assert not mask.any()
    assert not pen.any()


def test_yellowish_light_is_not_tissue():
    """The white point is the slide's own."""
    tinted = (thumbnail().astype(float) * [1.0, 0.97, 0.9]).astype(np.uint8)
    mask, _ = tissue_of(tinted, 4.0, SETTINGS)
    assert not mask[:8].any()
    assert mask[60, 80]


@pytest.mark.parametrize(
    ("ink", "is_pen"),
    [
        ((40, 60, 160), True),
        ((30, 110, 60), True),
        ((25, 25, 28), True),
        ((225, 30, 35), True),
        ((110, 60, 150), False),
        ((230, 120, 175), False),
        ((70, 40, 110), False),
        ((200, 70, 110), False),
    ],
    ids=["blue", "green", "black", "red", "haematoxylin", "eosin", "dense nuclei", "dense eosin"],
)
def test_inks_are_pen_and_stains_are_not(ink, is_pen):
    density = optical_density(np.full((4, 4, 3), ink, np.uint8), np.array(GLASS, np.float32))
    assert pen_of(density).all() == is_pen
    assert pen_of(density).any() == is_pen


def test_a_pen_stroke_is_left_out_with_its_margin():
    image = thumbnail()
    image[20:30, 5:155] = (40, 60, 160)
    mask, pen = tissue_of(image, 8.0, SETTINGS)
    assert pen[25, 80]
    assert not mask[20:30].any()
    without, _ = tissue_of(image, 8.0, TissueSettings(**{**SETTINGS.__dict__, "pen": False}))
    assert without[25].any()


def test_specks_are_dropped_and_holes_filled():
    image = thumbnail()
    image[4:6, 4:6] = (150, 80, 150)
    image[58:61, 79:82] = GLASS
    settings = TissueSettings(cells_per_tile=4, min_object_um2=400.0, max_hole_um2=4000.0, smooth_um=2.0)
    mask, _ = tissue_of(image, 4.0, settings)
    assert not mask[:10, :10].any()
    assert mask[59, 80]


def test_white_is_the_glass_and_not_the_scanners_filling():
    image = thumbnail()
    image[:, :60] = 255
    assert np.abs(white_of(image) - np.array(GLASS)).max() <= 2


def test_fractions_are_the_mask_over_whole_tiles_and_glass_is_its_colour(tiny_slide):
    path = tiny_slide(width=700, height=500)
    slide = open_slide(path)
    found = find_tissue(slide, 16, 0.5, SETTINGS)
    assert found.fraction.shape == (32, 44)
    assert np.array_equal(found.fraction, found.mask.reshape(32, 4, 44, 4).mean((1, 3), dtype=np.float32))
    assert not found.mask[500 // 4 :].any()
    assert np.abs(found.glass.astype(int) - GLASS).max() <= 1


def test_a_geojson_restricts_the_tissue(tiny_slide, tmp_path):
    path = tiny_slide(width=700, height=500, mpp=0.25)
    slide = open_slide(path)
    ring = [[200, 100], [400, 100], [400, 300], [200, 300], [200, 100]]
    hole = [[280, 180], [320, 180], [320, 220], [280, 220], [280, 180]]
    polygon = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring, hole]}, "properties": {}}
    folder = tmp_path / "regions"
    folder.mkdir()
    (folder / "slide.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [polygon]}))
    settings = TissueSettings(**{**SETTINGS.__dict__, "regions": str(folder)})
    found = find_tissue(slide, 16, 0.5, settings)
    full = find_tissue(slide, 16, 0.5, SETTINGS)
    px0 = 8  # level-0 pixels a mask pixel
    assert found.mask.sum() < full.mask.sum()
    assert not found.mask[:, : 190 // px0].any()
    assert not found.mask[:, 416 // px0 :].any()
    assert not found.mask[200 // px0, 300 // px0]
    row = 120 // px0, slice(220 // px0, 380 // px0)
    assert np.array_equal(found.mask[row], full.mask[row])
    (folder / "slide.geojson").write_text("[1, 2]")
    with pytest.raises(DataError, match="not a GeoJSON"):
        find_tissue(slide, 16, 0.5, settings)


def preset(name):
    return TissueSettings(**PRESETS[name])


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
    default, _ = tissue_of(image, um_per_px, preset("default"))
    fatty, _ = tissue_of(image, um_per_px, preset("fatty"))
    assert default[dense].mean() > 0.99
    assert fatty[dense].mean() > 0.99
    assert default[adipose].mean() < 0.05
    assert fatty[adipose].mean() > 0.9
    assert not fatty[: 200 // um_per_px].any()  # glass stays glass


def test_pale_stain_is_tissue_as_faint_and_clean_glass_is_not():
    rng = np.random.default_rng(0)
    stained = thumbnail().astype(float)
    pale = np.array(GLASS) + (stained - GLASS) * 0.17 + rng.normal(0, 0.6, stained.shape)
    image = np.clip(pale, 0, 255).round().astype(np.uint8)
    assert not tissue_of(image, 8.0, preset("default"))[0].any()
    mask, _ = tissue_of(image, 8.0, preset("faint"))
    truth, _ = tissue_of(thumbnail(), 8.0, preset("default"))
    assert (mask & truth).sum() / (mask | truth).sum() > 0.9
    glass = np.clip(rng.normal(GLASS, 1, (120, 160, 3)), 0, 255).astype(np.uint8)
    for name in PRESETS:
        assert not tissue_of(glass, 8.0, preset(name))[0].any()


def test_biopsy_keeps_crumbs_that_default_drops():
    image = np.full((120, 160, 3), GLASS, np.uint8)
    image[20:60, 20:140] = (180, 90, 150)
    image[80:92, 30:42] = (180, 90, 150)  # 96 um a side
    image[80:84, 90:94] = (180, 90, 150)  # 32 um a side: dirt
    default, biopsy = (tissue_of(image, 8.0, preset(name))[0] for name in ("default", "biopsy"))
    assert default[40, 80]
    assert biopsy[40, 80]
    assert biopsy[86, 36]
    assert not default[70:].any()
    assert not biopsy[70:, 80:].any()


def settings_of(data, **tissue):
    cfg = compose_jobs("prepare", [f"data={data}"])[0]
    OmegaConf.set_struct(cfg, False)
    cfg.data.tissue.update(tissue)
    return from_config(cfg).tissue


def test_a_preset_fills_in_what_is_not_given_beside_it():
    assert settings_of("brca_8mag") == TissueSettings(cells_per_tile=16)
    assert settings_of("demo") == TissueSettings(cells_per_tile=4, min_object_um2=10_000, smooth_um=6)
    fatty = settings_of("brca_8mag", preset="fatty", max_hole_um2=90_000, pen=False)
    assert fatty == TissueSettings(**PRESETS["fatty"] | {"max_hole_um2": 90_000, "pen": False})
    assert settings_of("demo", preset=None) == TissueSettings(cells_per_tile=4)


@pytest.mark.parametrize(
    ("tissue", "message"),
    [
        ({"preset": "fathy"}, r"data\.tissue\.preset=fathy: no such preset; did you mean 'fatty'\?"),
        ({"preset": "ihc"}, "expected default, faint, fatty, biopsy"),
        ({"preset": "faint", "chroma_floor": 0.03}, r"chroma_floor=0\.03: above chroma_ceiling=0\.02"),
        ({"presett": "faint"}, "did you mean 'preset'"),
    ],
)
def test_unknown_presets_and_bounds_that_cross_are_refused(tissue, message):
    with pytest.raises(ConfigError, match=message):
        settings_of("brca_8mag", **tissue)


def test_every_parameter_has_its_key_in_the_data_files():
    """The command line takes only keys that are there."""
    for path in sorted((ROOT / "conf" / "data").glob("*.yaml")):
        assert set(OmegaConf.load(path).tissue) == {"preset", *TissueSettings.__dataclass_fields__}, path.name
