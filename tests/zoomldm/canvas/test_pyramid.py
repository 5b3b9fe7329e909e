"""The slide file: every reader finds its levels, scale and pixels; a file that could not be written leaves nothing."""

import numpy as np
import openslide
import pytest
import tifffile

from zoomldm.canvas.plan import levels_of
from zoomldm.canvas.pyramid import Pyramid
from zoomldm.canvas.store import PIXELS, CanvasStore
from zoomldm.errors import UserError
from zoomldm.ladder import Ladder

LADDER = Ladder(patch_px=32, num_rungs=6, base_magnification=20, base_mpp=0.5)
FACTS = {"synthetic": "true", "model": "0123 <&>"}


@pytest.fixture
def drawn(tmp_path):
    store = CanvasStore(tmp_path / "work", block=8)
    levels = levels_of(LADDER, root=LADDER[5], target=LADDER[0], rows=1, columns=1)
    generator = np.random.default_rng(0)
    for level in levels:
        for block in level.blocks(8):
            shape = ((block.bottom - block.top) * 32, (block.right - block.left) * 32, 3)
            store.write_image(level, block, PIXELS, generator.integers(0, 255, shape).astype(np.uint8))
    return store, levels


def test_levels_are_found_by_openslide_and_tifffile(drawn, tmp_path):
    store, levels = drawn
    path = tmp_path / "s.ome.tiff"
    Pyramid(compression="deflate", name="s", mark=False, facts=FACTS).write(path, store, levels)
    finest = store.window(levels[-1], 0, 0, 1024, 1024)
    with openslide.OpenSlide(path) as slide:
        assert slide.level_dimensions == tuple((1024 >> k, 1024 >> k) for k in range(6))
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.5)
        for k in range(6):
            part = np.asarray(slide.read_region((64, 128), k, (16, 16)))[..., :3]
            y, x = 128 >> k, 64 >> k
            assert np.array_equal(part, store.window(levels[5 - k], y, x, y + 16, x + 16))
    with tifffile.TiffFile(path) as tiff:
        series = tiff.series[0]
        assert tiff.is_ome
        assert len(series.levels) == 6
        assert np.array_equal(series.asarray(), finest)
        assert np.array_equal(series.levels[3].asarray(), store.window(levels[2], 0, 0, 128, 128))
        assert 'NominalMagnification="20"' in tiff.ome_metadata
        assert "0123 &lt;&amp;&gt;" in tiff.ome_metadata


def test_levels_are_found_by_tiatoolbox(drawn, tmp_path):
    """Where it is installed (2.1.3 was): it is no dependency of ours."""
    wsireader = pytest.importorskip("tiatoolbox.wsicore.wsireader")
    store, levels = drawn
    path = tmp_path / "s.ome.tiff"
    Pyramid(compression="deflate", name="s", mark=False, facts=FACTS).write(path, store, levels)
    reader = wsireader.WSIReader.open(path)
    assert [tuple(size) for size in reader.info.level_dimensions] == [(1024 >> k, 1024 >> k) for k in range(6)]
    assert reader.info.mpp == pytest.approx((0.5, 0.5))
    assert reader.info.objective_power == 20
    for k in range(6):
        part = reader.read_rect((64, 128), (16, 16), resolution=k, units="level")
        y, x = 128 >> k, 64 >> k
        assert np.array_equal(part, store.window(levels[5 - k], y, x, y + 16, x + 16))


def test_jpeg_is_smaller_and_alike(drawn, tmp_path):
    store, levels = drawn
    sizes = {}
    for compression in ("deflate", "jpeg"):
        path = tmp_path / f"{compression}.ome.tiff"
        Pyramid(compression=compression, name="s", mark=False, facts=FACTS).write(path, store, levels[:3])
        sizes[compression] = path.stat().st_size
        with openslide.OpenSlide(path) as slide:
            found = np.asarray(slide.read_region((0, 0), 0, (128, 128)))[..., :3].astype(int)
        assert np.abs(found - store.window(levels[2], 0, 0, 128, 128)).mean() < 12
    assert sizes["jpeg"] < sizes["deflate"]


def test_a_full_disk_leaves_the_file_before_and_nothing_half_written(drawn, tmp_path, monkeypatch):
    store, levels = drawn
    path = tmp_path / "s.ome.tiff"
    pyramid = Pyramid(compression="deflate", name="s", mark=False, facts=FACTS)
    pyramid.write(path, store, levels[:2])
    before = path.read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tifffile.TiffWriter, "write", full)
    with pytest.raises(UserError, match="full"):
        pyramid.write(path, store, levels)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["s.ome.tiff"]


def test_a_mark_stands_in_the_corner_of_every_level(drawn, tmp_path):
    store, levels = drawn
    for mark in (False, True):
        Pyramid(compression="deflate", name="s", mark=mark, facts=FACTS).write(tmp_path / f"{mark}.tiff", store, levels)
    with openslide.OpenSlide(tmp_path / "False.tiff") as plain, openslide.OpenSlide(tmp_path / "True.tiff") as marked:
        for k, (width, height) in enumerate(plain.level_dimensions):
            before, after = (np.asarray(s.read_region((0, 0), k, (width, height))) for s in (plain, marked))
            changed = (before != after).any(-1)
            assert changed.any()
            assert not changed[: height // 2].any()
            assert (after[changed][:, :3] == 0).all()
