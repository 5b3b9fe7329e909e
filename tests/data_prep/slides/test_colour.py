"""ICC profiles, by whichever way pixels are read."""

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image, ImageCms

from data_prep.slides.colour import colour_of
from data_prep.slides.slide import Slide
from tests.helpers.tiny_slides import (
    READERS,
    open_slide,
    readers,
    spec_of,
    swapped_profile,
    tissue_pixels,
    write_slide,
    write_svs,
)


def test_profiles_that_change_nothing_or_are_not_of_rgb_are_left_alone():
    made = [ImageCms.ImageCmsProfile(ImageCms.createProfile(*of)).tobytes() for of in (("sRGB",), ("LAB", 5000))]
    assert [colour_of(source).status for source in (None, *made)] == ["none", "none", "damaged"]
    assert [colour_of(source).transform for source in (None, *made)] == [None] * 3
    assert colour_of(swapped_profile()).status == "applied"


def swapped(pixels):
    return pixels[..., ::-1].astype(int)


@pytest.mark.parametrize("use_native", [True, False])
@pytest.mark.parametrize("make", ["tiff", "tiff_jpeg", "svs"])
def test_a_slides_icc_profile_reaches_the_pixels_by_both_readers(tmp_path, make, use_native):
    pixels, path = tissue_pixels(700, 500), tmp_path / f"a.{'svs' if make == 'svs' else 'tif'}"
    for icc in (None, swapped_profile()):
        if make == "svs":
            write_svs(path, pixels, compression=33005, fields="MPP = 0.5", icc=icc)
        else:
            write_slide(path, pixels, jpeg=make == "tiff_jpeg", icc=icc)
        slide = open_slide(path, options=readers("auto" if use_native else "openslide"))
        read, thumbnail = slide.read_boxes(37, 211, 300, 222)[0], slide.thumbnail(4.0, (175, 125))
        assert (slide.reader.native(0) is not None) == use_native
        slide.close()
        if icc is None:
            plain, plain_thumbnail = read, thumbnail
    with openslide.OpenSlide(path) as reference:
        assert reference.color_profile is not None
    assert np.abs(read - swapped(plain)).max() <= 1
    assert np.abs(thumbnail - swapped(plain_thumbnail)).max() <= 1
    assert np.abs(read - plain.astype(int)).max() > 30


def test_the_resampled_way_applies_the_icc_profile(tmp_path):
    pixels = tissue_pixels(700, 500)
    plain, profiled = (
        open_slide(write_slide(tmp_path / f"{name}.tif", pixels, mpp=0.33, icc=icc))
        for name, icc in (("plain", None), ("profiled", swapped_profile()))
    )
    area = (100, 80, 200, 150)
    assert np.abs(profiled.read_boxes(*area)[0] - swapped(plain.read_boxes(*area)[0])).max() <= 1


@pytest.mark.parametrize("name", ["a.png", "rgba.png", "a.jpg", "untiled.tif", "a.ome.tif"])
def test_flat_images_get_their_icc_profile(tmp_path, name):
    pixels, path, icc = tissue_pixels(300, 200), tmp_path / name, swapped_profile()
    if name == "untiled.tif":
        tifffile.imwrite(path, pixels, photometric="rgb", iccprofile=icc)
    elif name == "a.ome.tif":
        tifffile.imwrite(path, pixels, photometric="rgb", ome=True, metadata={"axes": "YXS"}, iccprofile=icc)
    else:
        image = Image.fromarray(pixels).convert("RGBA" if name == "rgba.png" else "RGB")
        image.save(path, icc_profile=icc, **({"quality": 95} if name == "a.jpg" else {}))
    if name == "a.jpg":
        pixels = np.asarray(Image.open(path))
    slide = open_slide(path, mpp=0.5)
    assert np.abs(slide.read_boxes(10, 20, 200, 150)[0] - swapped(pixels[20:170, 10:210])).max() <= 1


@pytest.mark.parametrize("junk_from", [0, 200])  # no profile at all; one whose tables are gone
@pytest.mark.parametrize("name", ["a.tif", "a.png", "untiled.tif"])
def test_a_damaged_icc_profile_leaves_the_pixels_as_they_are(tmp_path, name, junk_from):
    pixels, path, junk = tissue_pixels(300, 300), tmp_path / name, swapped_profile()[:junk_from] + b"junk" * 40
    if name == "a.tif":
        write_slide(path, pixels, icc=junk)
    elif name == "a.png":
        Image.fromarray(pixels).save(path, icc_profile=junk)
    else:
        tifffile.imwrite(path, pixels, photometric="rgb", iccprofile=junk)
    slide = open_slide(path, mpp=0.5)
    assert slide.icc is None
    assert slide.icc_status == "damaged"
    assert np.array_equal(slide.read_boxes(0, 0, 300, 300)[0], pixels)


@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_profiles_may_be_left_alone_and_the_slide_says_so(tmp_path, name):
    pixels, path = tissue_pixels(300, 300), tmp_path / name
    if name == "a.tif":
        write_slide(path, pixels, icc=swapped_profile())
    else:
        Image.fromarray(pixels).save(path, icc_profile=swapped_profile())
    assert open_slide(path, mpp=0.5).icc_status == "applied"
    slide = Slide(spec_of(path, mpp=0.5), 0.5, READERS, use_icc=False)
    assert slide.icc_status == "off"
    assert np.array_equal(slide.read_boxes(0, 0, 300, 300)[0], pixels)
