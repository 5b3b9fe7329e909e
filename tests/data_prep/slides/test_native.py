"""Native tiles are used where they are OpenSlide's pixels."""

import numpy as np
import pytest

from data_prep.slides.readers.base import UnreadableError
from data_prep.slides.readers.level import LevelReader
from data_prep.slides.readers.native import NativeLevel, is_identical, native_pages
from data_prep.slides.readers.openslide import OpenSlideReader
from tests.helpers.real_slide import REAL_SLIDE, needs_real_slide
from tests.helpers.tiny_slides import open_slide, readers, tissue_pixels, write_slide


@pytest.mark.parametrize("jpeg", [False, True])
def test_native_tiles_equal_openslide(tiny_slide, jpeg):
    path = tiny_slide(width=700, height=500, jpeg=jpeg)
    fast = open_slide(path)
    slow = open_slide(path, options=readers("openslide"))
    for area in ((0, 0, 700, 500), (37, 211, 300, 222), (500, 400, 100, 90)):
        assert np.array_equal(fast.read_boxes(*area)[0], slow.read_boxes(*area)[0])
    assert slow.reader.native(0) is None


@needs_real_slide
def test_native_tiles_of_the_real_slide_equal_openslide_and_are_decoded_once():
    fast = open_slide(REAL_SLIDE)
    slow = open_slide(REAL_SLIDE, options=readers("openslide"))
    area = (700, 800, 700, 600)
    assert np.array_equal(fast.read_boxes(*area)[0], slow.read_boxes(*area)[0])
    for y in range(0, 2967, 512):
        for x in range(0, 2220, 512):
            fast.read_boxes(x, y, 512, 512)
    native = fast.reader.native(0)
    assert native.num_decoded == len(native.touched)


def test_a_reader_with_other_pixels_is_not_used(tiny_slide, monkeypatch):
    path = tiny_slide()
    page = native_pages(path, [(700, 500), (175, 125)])[0]
    decode = NativeLevel.decode
    monkeypatch.setattr(NativeLevel, "decode", lambda self, index: decode(self, index) ^ 1)
    assert not is_identical(NativeLevel(path, page, 0, OpenSlideReader(path).read), 1.0)
    assert LevelReader(path).native(0) is None


def test_a_reader_of_which_no_tile_could_be_compared_is_not_used(tiny_slide, monkeypatch):
    path = tiny_slide()

    def fail(self, index):
        raise UnreadableError("no")

    monkeypatch.setattr(NativeLevel, "decode", fail)
    assert LevelReader(path).native(0) is None


def test_tiles_with_tissue_are_compared_too(tmp_path, monkeypatch):
    """Tissue in one corner, white elsewhere, in compressed tiles: decoding that errs in colours alone is found."""
    pixels = np.full((2000, 2000, 3), 255, np.uint8)
    pixels[:400, :400] = tissue_pixels(400, 400, margin=-1)
    path = write_slide(tmp_path / "a.tif", pixels, jpeg=True)
    decode = NativeLevel.decode

    def swaps(self, index):
        return decode(self, index)[..., ::-1]

    assert LevelReader(path).native(0) is not None
    monkeypatch.setattr(NativeLevel, "decode", swaps)
    assert LevelReader(path).native(0) is None


def test_a_tile_that_tifffile_cannot_decode_is_read_through_openslide(tiny_slide, monkeypatch):
    path = tiny_slide()
    reader = LevelReader(path)
    expected = reader.read(0, 0, 0, 600, 400)
    again = LevelReader(path)
    assert again.native(0) is not None

    def fail(self, index):
        raise UnreadableError("no")

    monkeypatch.setattr(NativeLevel, "decode", fail)
    assert np.array_equal(again.read(0, 0, 0, 600, 400), expected)
