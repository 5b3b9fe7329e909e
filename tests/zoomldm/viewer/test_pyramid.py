"""Tiles are what OpenSlide reads, whole ones also at the slide's edges, and the scale is the file's own."""

from io import BytesIO

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image

from tests.helpers.tiny_slides import tissue_pixels, write_slide
from zoomldm.errors import DataError
from zoomldm.viewer.pyramid import BEYOND, TILE_PX, Pyramid

WIDTH, HEIGHT = 900, 600


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    path = tmp_path_factory.mktemp("pyramid") / "a.tif"
    return write_slide(path, tissue_pixels(WIDTH, HEIGHT), downsamples=(1, 2, 4))


def picture(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(png)).convert("RGBA"))


@pytest.mark.parametrize("level", [0, 1, 2])
def test_tiles_are_the_pixels_that_openslide_reads(slide, level):
    pyramid = Pyramid(slide)
    factor, rows = 2**level, -(-(HEIGHT // 2**level) // TILE_PX)
    columns = -(-(WIDTH // 2**level) // TILE_PX)
    with openslide.OpenSlide(slide) as reader:
        for row in range(rows):
            for column in range(columns):
                at = (column * TILE_PX * factor, row * TILE_PX * factor)
                read = np.asarray(reader.read_region(at, level, (TILE_PX, TILE_PX)))
                tile = picture(pyramid.tile(pyramid.finest - level, column, row))
                inside = tile[..., 3] == 255
                height, width = min(TILE_PX, HEIGHT // factor - row * TILE_PX), WIDTH // factor - column * TILE_PX
                assert inside[:height, : min(TILE_PX, width)].all()
                assert inside.sum() == height * min(TILE_PX, width)
                assert np.array_equal(tile[inside], read[inside])


def test_the_first_level_is_one_pixel_and_beyond_the_slide_is_nothing(slide):
    pyramid = Pyramid(slide)
    assert (picture(pyramid.tile(0, 0, 0))[..., 3] == 255).sum() == 1
    assert pyramid.tile(pyramid.finest, 4, 0) == pyramid.tile(pyramid.finest + 1, 0, 0) == BEYOND
    assert not picture(BEYOND)[1:, 1:].any()


def test_the_scale_is_the_files_own_and_else_what_is_given(slide, tmp_path):
    bare = write_slide(tmp_path / "bare.tif", tissue_pixels(300, 300), mpp=None)
    assert (Pyramid(slide, mpp=0.25).mpp, Pyramid(slide).says_its_scale) == (0.5, True)
    assert (Pyramid(bare, mpp=0.25).mpp, Pyramid(bare, mpp=0.25).says_its_scale) == (0.25, False)
    with pytest.raises(DataError, match="does not say its scale; give it"):
        Pyramid(bare)


def test_an_address_names_one_state_of_a_file(slide, tmp_path):
    assert Pyramid(slide).key == Pyramid(slide).key
    copy = write_slide(tmp_path / "a.tif", tissue_pixels(300, 300))
    before = Pyramid(copy).key
    write_slide(copy, tissue_pixels(300, 300, seed=1))
    assert len({Pyramid(slide).key, before, Pyramid(copy).key}) == 3


def test_a_damaged_tile_leaves_the_others_readable(tmp_path):
    path = write_slide(tmp_path / "a.tif", tissue_pixels(512, 256), downsamples=(1,), jpeg=True)
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        start, length = tiff.pages[0].dataoffsets[1], tiff.pages[0].databytecounts[1]
    content[start : start + length] = bytes(length)
    path.write_bytes(content)
    pyramid = Pyramid(path)
    with pytest.raises(DataError, match="damaged at level 9, tile 1, 0"):
        pyramid.tile(9, 1, 0)
    assert picture(pyramid.tile(9, 0, 0))[..., 3].all()
