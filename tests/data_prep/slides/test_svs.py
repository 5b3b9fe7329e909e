"""Aperio's SVS made here and prepared end to end: JPEG and JPEG 2000 tiles, scale by MPP and by AppMag."""

import numpy as np
import openslide
import pytest

from data_prep.work.store import SlideStore
from tests.helpers.prepare import prepare_folder, samples_of
from tests.helpers.tiny_slides import open_slide, swapped_profile, tissue_pixels, write_svs
from zoomldm.data.schema import decode_image
from zoomldm.errors import DataError

RGB_JP2K, YCBCR_JP2K = 33005, 33003


@pytest.mark.parametrize(
    ("compression", "is_native"),
    [("jpeg", True), (RGB_JP2K, True), (YCBCR_JP2K, False)],  # tifffile leaves the last one's colours as YCbCr
)
def test_tiles_are_read_natively_where_the_pixels_are_openslides(tmp_path, compression, is_native):
    path = write_svs(tmp_path / "a.svs", tissue_pixels(1010, 730), compression=compression)
    slide = open_slide(path)
    assert (slide.vendor, slide.level_sizes) == ("aperio", [(1010, 730), (253, 183)])  # the thumbnail is no level
    assert (slide.reader.native(0) is not None) == is_native
    read = slide.read_boxes(0, 0, 505, 365)[0]
    with openslide.OpenSlide(path) as reference:
        assert "thumbnail" in reference.associated_images
        assert np.array_equal(read, np.asarray(reference.read_region((0, 0), 0, (1010, 730)))[..., :3])
    slide.close()


@pytest.mark.parametrize(
    ("fields", "mpp_level0", "source"),
    [
        ("AppMag = 40|MPP = 0.2498", 0.2498, "mpp of the file"),
        ("AppMag = 20|StripeWidth = 2040|MPP = 0.4990", 0.499, "mpp of the file"),
        ("AppMag = 40", 0.25, "objective power of the file"),
        ("AppMag = 20|Filename = x", 0.5, "objective power of the file"),
        ("AppMag = 40|MPP = 0", 0.25, "objective power of the file"),
    ],
)
def test_the_scale_is_mpp_else_appmag(tmp_path, fields, mpp_level0, source):
    slide = open_slide(write_svs(tmp_path / "a.svs", tissue_pixels(500, 400), fields=fields), spare_mpp=0.3)
    assert slide.scale.mpp_level0 == pytest.approx(mpp_level0)
    assert slide.scale.source == source


def test_an_svs_without_a_scale_needs_one(tmp_path):
    path = write_svs(tmp_path / "a.svs", tissue_pixels(500, 400), fields="Filename = x")
    with pytest.raises(DataError, match=r"slide\.mpp"):
        open_slide(path)
    assert open_slide(path, mpp=0.25).scale.source == "given mpp"


@pytest.mark.parametrize("icc", [None, swapped_profile()], ids=["srgb", "icc"])
def test_svs_become_patches_that_are_openslides_pixels(tmp_path, icc):
    folder = tmp_path / "slides"
    folder.mkdir()
    scales = {"jpeg": "AppMag = 40|MPP = 0.2505", RGB_JP2K: "AppMag = 40", YCBCR_JP2K: "AppMag = 20|MPP = 0.5"}
    for number, (compression, fields) in enumerate(scales.items()):
        pixels = tissue_pixels(840, 780, number)
        if compression == YCBCR_JP2K:  # light in Y, little chroma, so that it is a picture of tissue after conversion
            pixels = np.stack([pixels[..., 1], 128 + (255 - pixels[..., 1]) // 8, 128 + (255 - pixels[..., 1]) // 5], 2)
        write_svs(folder / f"{compression}.svs", pixels, compression=compression, fields=fields, icc=icc)
    manifest = prepare_folder(folder, tmp_path / "data")
    states = [SlideStore(tmp_path / "data", str(compression)).done() for compression in scales]
    assert [state.reader for state in states] == ["tifffile", "tifffile", "openslide"]
    assert [state.scale.mpp_true for state in states] == pytest.approx([0.501, 0.5, 0.5])
    compared = dict.fromkeys((str(c) for c in scales), 0)
    references = {name: openslide.OpenSlide(folder / f"{name}.svs") for name in compared}
    for shard, meta, columns in samples_of(manifest):
        width, height = references[meta.slide].dimensions
        side = meta.region_px0
        if shard.magnification != 20 or meta.x_px0 + side > width or meta.y_px0 + side > height:
            continue
        region = references[meta.slide].read_region((meta.x_px0, meta.y_px0), 0, (side, side)).convert("RGB")
        box = side // 16
        sums = np.asarray(region, np.int64).reshape(16, box, 16, box, 3).sum((1, 3))
        mean = (2 * sums + box * box) // (2 * box * box)
        patch = decode_image(columns["image"]["png"]).astype(int)
        if icc is None:
            assert np.array_equal(patch, mean)
        else:
            assert np.abs(patch - mean[..., ::-1]).max() <= 1
        compared[meta.slide] += 1
    assert min(compared.values()) > 20
