"""Sharpness of tiles: a blur lowers it, stain and scale do not."""

import numpy as np
import pytest
from scipy import ndimage

from data_prep.slides.files import quick_hash
from data_prep.tissue.focus import SOFT, FocusMap, focus_of
from data_prep.work.store import SlideStore
from tests.helpers.prepare import prepare_folder, samples_of
from tests.helpers.tiny_slides import GLASS, tissue_settings, write_slide
from zoomldm.files import write_json


def cells(side, *, stain=1.0, blur_px=0.0, seed=0):
    """Return a field of round nuclei on pink, (side, side, 3) uint8, with a camera's noise."""
    rng = np.random.default_rng(seed)
    dots = rng.random((side, side)) < 0.004
    nuclei = ndimage.distance_transform_edt(~dots) < 4
    density = 0.15 + 0.5 * nuclei + 0.03 * rng.standard_normal((side, side))
    light = 240 * 10 ** -(stain * density[..., None] * np.array([0.7, 1.0, 0.6]))
    light = ndimage.gaussian_filter(light, (blur_px, blur_px, 0)) if blur_px else light
    return np.clip(np.round(light + rng.normal(0, 0.5, light.shape)), 0, 255).astype(np.uint8)


def tiles_of(pixels, side=64):
    rows, columns = (n // side for n in pixels.shape[:2])
    tiles = pixels.reshape(rows, side, columns, side, 3).swapaxes(1, 2)
    return tiles.reshape(-1, side, side, 3)


def focus_at(blur_px, *, side=64, **values):
    return focus_of(tiles_of(cells(512, blur_px=blur_px, **values), side), 0.5)


@pytest.mark.parametrize("side", [32, 64, 256])
def test_every_blur_lowers_it_and_the_stain_hardly_matters(side):
    for stain in (0.6, 1.0, 1.5):
        sharp, slight, strong = (np.median(focus_at(blur_px, side=side, stain=stain)) for blur_px in (0, 1, 2))
        assert sharp > 1.3 * slight > 1.3 * SOFT / 1.3
        assert strong < SOFT < slight
    one, other = (np.median(focus_at(0.7, side=side, stain=stain)) for stain in (0.7, 1.4))
    assert one == pytest.approx(other, rel=0.1)


def test_it_is_that_of_the_whole_tile_though_rows_are_left_out():
    tiles = tiles_of(cells(512), 64)
    green = tiles[..., 1].astype(float)
    laplacian = sum(np.roll(green, step, axis) for step in (-1, 1) for axis in (1, 2)) - 4 * green
    squares = sum((np.roll(green, -1, axis) - np.roll(green, 1, axis)) ** 2 for axis in (1, 2)) / 4
    inner = np.s_[:, 1:-1, 1:-1]
    whole = np.sqrt((laplacian[inner] ** 2).mean((1, 2)) - 20) / np.sqrt(squares[inner].mean((1, 2)) + 1) / 0.5
    assert focus_of(tiles, 0.5) == pytest.approx(whole, rel=0.15)
    assert focus_of(tiles, 0.25) == pytest.approx(2 * focus_of(tiles, 0.5))
    assert focus_of(tiles[:3], 0.5).tolist() == focus_of(tiles, 0.5)[:3].tolist()


def test_noise_alone_is_no_focus():
    noise = np.clip(np.random.default_rng(0).normal(200, 0.8, (4, 64, 64, 3)), 0, 255).round().astype(np.uint8)
    assert focus_of(noise, 0.5).tolist() == [0, 0, 0, 0]


def test_a_blurred_window_counts_as_no_tissue():
    focus = FocusMap((2, 4), 0.5)
    focus.values[:, :2] = [[1.0, 2.0], [2.0, 1.0]]
    fraction = np.array([[1.0, 1.0, 0.5, 0.05], [1.0, 1.0, 0.0, 0.0]], np.float32)
    assert focus.sharp_part(fraction, 0, 0, 2, least=1.5) == 0.5
    assert focus.sharp_part(fraction, 0, 2, 2, least=1.5) == pytest.approx(0.55 / 4)
    assert focus.sharp_part(fraction, 1, 3, 2, least=1.5) == 0
    assert (focus.median, focus.soft) == (1.5, 0.5)
    assert (FocusMap((1, 1), 0.5).median, FocusMap((1, 1), 0.5).soft) == (None, None)


@pytest.fixture
def half_blurred(tmp_path):
    """A slide whose right half, from x 256 on, is out of focus; its folder."""
    pixels = np.full((320, 576, 3), GLASS, np.uint8)
    field = cells(512)[:256]
    pixels[32:288, 32:544] = field
    pixels[:, 288:] = np.round(ndimage.gaussian_filter(pixels.astype(float), (3, 3, 0))).astype(np.uint8)[:, 288:]
    folder = tmp_path / "slides"
    folder.mkdir()
    write_slide(folder / "half.tif", pixels)
    return folder


def test_focus_is_kept_with_the_work_and_shown(half_blurred, tmp_path):
    prepare_folder(half_blurred, tmp_path / "data")
    store = SlideStore(tmp_path / "data", "half")
    focus, cells_ = store.focus(), store.cells()
    assert np.array_equal(np.isfinite(focus), cells_ > 0)
    assert np.nanmedian(focus[:, :17]) > 2 * SOFT > 2 * np.nanmedian(focus[:, 19:])
    state = store.done()
    assert state.focus == pytest.approx(np.nanmedian(focus), abs=1e-3)
    assert 0.4 < state.soft < 0.6
    qc = tmp_path / "data" / "qc"
    assert "of the tiles hardly in focus</b>" in (qc / "index.html").read_text()
    assert (qc / "half.focus.png").is_file()
    header, line = (text.split(",") for text in (qc / "slides.csv").read_text().splitlines())
    assert dict(zip(header, line, strict=True))["focus"] == str(state.focus)


def test_a_threshold_leaves_blurred_regions_out_and_changes_no_other(half_blurred, tmp_path):
    every = prepare_folder(half_blurred, tmp_path / "every")
    settings = tissue_settings(min_object_um2=100.0, max_hole_um2=100.0, smooth_um=2.0, min_focus=SOFT)
    sharp = prepare_folder(half_blurred, tmp_path / "sharp", tissue=settings)
    all_of, some_of = (
        {meta.key: fields["image"]["png"] for _, meta, fields in samples_of(manifest)} for manifest in (every, sharp)
    )
    assert 0.3 < len(some_of) / len(all_of) < 0.7
    assert some_of.items() <= all_of.items()
    focus = SlideStore(tmp_path / "every", "half").focus()
    for _, meta, _ in samples_of(sharp):
        side, x, y = meta.region_px0 // 16, meta.x_px0 // 16, meta.y_px0 // 16
        window = focus[y : y + side, x : x + side]
        assert (window >= SOFT).sum() + np.isnan(window).sum() > 0.2 * side * side
    state = SlideStore(tmp_path / "sharp", "half").done()
    assert state.regions_blurred == len(all_of) - len(some_of)
    assert "blurred regions left out" in (tmp_path / "sharp" / "qc" / "index.html").read_text()


def test_work_of_before_is_read_without_focus_and_not_done_again(half_blurred, tmp_path, capsys):
    manifest = prepare_folder(half_blurred, tmp_path / "data")
    store = SlideStore(tmp_path / "data", "half")
    state = store.done().to_dict()
    for name in ("focus", "soft", "regions_blurred"):
        del state[name]
    write_json(store.state_path, state)
    with np.load(store.folder / "samples.npz") as stored:
        arrays = {name: stored[name] for name in stored if name != "focus"}
    np.savez(store.folder / "samples.npz", **arrays)
    before = quick_hash(store.images_path)
    again = prepare_folder(half_blurred, tmp_path / "data")
    assert again.sha256 == manifest.sha256
    assert quick_hash(store.images_path) == before
    assert store.focus() is None
    assert "focus not measured" in (tmp_path / "data" / "qc" / "index.html").read_text()
