"""A slide as a plane of base pixels."""

import numpy as np
import openslide
import pytest
import tifffile

from tests.helpers.tiny_slides import open_slide, write_slide
from zoomldm.errors import DataError


@pytest.mark.parametrize("mpp", [0.25, 0.2525, 0.499, 0.17])
def test_level_0_coordinates_reproduce_the_pixels_through_openslide(tiny_slide, mpp):
    """A base region's corner and side in level-0 pixels give the same box average."""
    path = tiny_slide(mpp=mpp, width=803, height=611, downsamples=(1, 4))
    slide = open_slide(path)
    box = slide.scale.box
    pixels, factor = slide.read_boxes(20, 30, 40, 50)
    assert factor == box
    with openslide.OpenSlide(path) as reference:
        size = (40 * box, 50 * box)
        region = np.asarray(reference.read_region(slide.to_px0(20, 30), 0, size).convert("RGB"))
    assert np.array_equal(pixels, region)
    slide.close()


def test_a_level_of_downsample_2_0005_is_read_and_its_corner_is_within_a_pixel(tiny_slide):
    path = tiny_slide(mpp=0.25, width=4001, height=801, downsamples=(1, 2.0005))
    slide = open_slide(path)
    assert (slide.scale.level, slide.scale.box) == (1, 1)
    assert slide.scale.downsample != 2
    x_px = 1900
    assert abs(slide.to_px0(x_px, 0)[0] - x_px * slide.scale.downsample) <= 0.5
    with tifffile.TiffFile(path) as tiff:
        level = tiff.pages[1].asarray()
    pixels, _ = slide.read_boxes(x_px, 8, 64, 64)
    assert np.array_equal(pixels, level[8:72, x_px : x_px + 64])


def test_resampling_to_the_base_keeps_a_slow_gradient(tmp_path):
    ramp = np.repeat(np.linspace(0, 250, 900)[None, :, None], 300, 0).repeat(3, 2)
    path = write_slide(tmp_path / "a.tif", np.round(ramp).astype(np.uint8), mpp=0.33)
    slide = open_slide(path)
    assert slide.scale.method == "resampled"
    pixels, factor = slide.read_boxes(100, 10, 200, 20)
    assert factor == 1
    position = (np.arange(100, 300) + 0.5) * 0.5 / slide.scale.mpp_level0
    expected = np.interp(position, np.arange(900) + 0.5, np.linspace(0, 250, 900))
    assert np.abs(pixels[5, :, 0] - expected).max() <= 1.0


def test_resampled_blocks_meet_without_a_seam(tiny_slide):
    slide = open_slide(tiny_slide(mpp=0.33))
    whole, _ = slide.read_boxes(0, 0, 96, 64)
    halves = [slide.read_boxes(x, 0, 48, 64)[0] for x in (0, 48)]
    assert np.array_equal(whole, np.concatenate(halves, axis=1))


def test_beyond_the_edge_lies_glass(tiny_slide):
    slide = open_slide(tiny_slide(width=500, height=301))
    slide.glass = np.array([1, 2, 3], np.uint8)
    pixels, _ = slide.read_boxes(480, 290, 64, 64)
    assert (pixels[11:] == slide.glass).all()
    assert (pixels[:, 20:] == slide.glass).all()
    assert not (pixels[:11, :20] == slide.glass).all()
    outside, _ = slide.read_boxes(2000, 2000, 8, 8)
    assert (outside == slide.glass).all()


def test_thumbnail_is_the_area_average_of_the_plane(tiny_slide):
    slide = open_slide(tiny_slide(width=640, height=480, downsamples=(1,)))
    thumbnail = slide.thumbnail(8.0, (88, 64))
    pixels, _ = slide.read_boxes(0, 0, 640, 480)
    mean = pixels.reshape(60, 8, 80, 8, 3).mean((1, 3))
    assert np.abs(thumbnail[:60, :80] - mean).max() <= 0.51
    assert (thumbnail[60:] == 255).all()


def test_bounds_are_the_origin_of_the_plane(tiny_slide):
    slide = open_slide(tiny_slide(mpp=0.25))
    names = ("x", "y", "width", "height")
    bounds = {f"openslide.bounds-{n}": str(v) for n, v in zip(names, (100, 60, 300, 200))}
    slide.reader.properties = slide.reader.properties | bounds
    slide._set_bounds()
    assert (slide.width_px, slide.height_px) == (150, 100)
    assert slide.to_px0(0, 0) == (100, 60)
    assert slide.to_px0(10, 20) == (120, 100)


def test_bad_files_are_refused_with_their_reason(tmp_path):
    (tmp_path / "empty.svs").write_bytes(b"")
    (tmp_path / "noise.svs").write_bytes(np.random.default_rng(0).bytes(4096))
    (tmp_path / "noise.png").write_bytes(np.random.default_rng(0).bytes(4096))
    for name, reason in (("empty.svs", "0 bytes"), ("noise.svs", "not a slide"), ("noise.png", "cannot be decoded")):
        with pytest.raises(DataError, match=reason):
            open_slide(tmp_path / name, mpp=0.5)
    with pytest.raises(DataError, match="cannot be read"):
        open_slide(tmp_path / "missing.svs")


def test_a_file_that_changes_while_it_is_read_is_refused(tiny_slide):
    path = tiny_slide()
    slide = open_slide(path)
    slide.check_unchanged()
    with open(path, "ab") as stream:
        stream.write(b"more")
    with pytest.raises(DataError, match="changed while it was read"):
        slide.check_unchanged()
