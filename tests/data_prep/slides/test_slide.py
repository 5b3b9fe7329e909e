import dataclasses
import io
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image, ImageCms

from data_prep.slides.colour import icc_transform
from data_prep.slides.readers.base import UnreadableError
from data_prep.slides.readers.level import LevelReader
from data_prep.slides.readers.native import NativeLevel, is_identical, native_pages
from data_prep.slides.readers.openslide import OpenSlideReader
from data_prep.slides.scale import choose_scale, mpp_of
from tests.helpers.real_slide import REAL_SLIDE, needs_real_slide
from tests.helpers.tiny_slides import open_slide, readers, swapped_profile, tissue_pixels, write_slide, write_svs
from zoomldm.errors import DataError


@pytest.mark.parametrize(
    ("mpp", "downsamples", "level", "box", "mpp_true"),
    [
        (0.5, [1.0], 0, 1, 0.5),
        (0.499, [1.0, 4.0], 0, 1, 0.499),
        (0.25, [1.0, 4.0], 0, 2, 0.5),
        (0.2525, [1.0, 4.0], 0, 2, 0.505),
        (0.265, [1.0, 4.0], 0, 2, 0.53),
        (0.25, [1.0, 2.0005, 4.001], 1, 1, 0.500125),
        (0.25, [1.0, 2.0, 4.0], 1, 1, 0.5),
        (0.125, [1.0, 16.0], 0, 4, 0.5),
        (0.33, [1.0, 4.0], 0, None, 0.5),
        (0.165, [1.0, 2.0, 4.0], 0, 3, 0.495),
        (0.17, [1.0, 2.0], 0, 3, 0.51),
        (0.2, [1.0, 4.0], 0, None, 0.5),
    ],
)
def test_the_way_to_the_base_mpp(mpp, downsamples, level, box, mpp_true):
    scale = choose_scale(mpp, downsamples, 0.5, source="test", path=Path("a"))
    assert (scale.level, scale.box) == (level, box)
    assert scale.mpp_true == pytest.approx(mpp_true)
    assert scale.ratio * mpp * downsamples[level] == pytest.approx(scale.mpp_true)


def test_a_slide_coarser_than_the_ladder_is_refused():
    with pytest.raises(DataError, match="coarser than the ladder"):
        choose_scale(1.0, [1.0], 0.5, source="test", path=Path("a.svs"))


@pytest.mark.parametrize(
    ("properties", "given", "expected"),
    [
        ({"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.25"}, None, 0.25),
        ({"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.25"}, 0.5, 0.25),
        ({"openslide.objective-power": "40"}, None, 0.25),
        ({"openslide.objective-power": "20"}, 0.3, 0.5),
        ({"openslide.mpp-x": "352.7", "openslide.mpp-y": "352.7"}, 0.5, 0.5),
        ({"openslide.mpp-x": "352.7", "openslide.objective-power": "20"}, None, 0.5),
        ({"openslide.mpp-x": "0", "openslide.objective-power": "junk"}, 0.4, 0.4),
        ({}, 0.4, 0.4),
    ],
)
def test_where_the_scale_comes_from(properties, given, expected):
    assert mpp_of(properties, given, Path("a"))[0] == expected


@pytest.mark.parametrize(("properties", "given"), [({}, None), ({"openslide.mpp-x": "352.7"}, None), ({}, 352.7)])
def test_no_scale_or_nonsense_is_refused_with_the_way_to_give_it(properties, given):
    with pytest.raises(DataError, match=r"slide\.mpp=0\.5"):
        mpp_of(properties, given, Path("a"))


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


def test_profiles_that_change_nothing_or_are_not_of_rgb_are_left_alone():
    assert icc_transform(None) is None
    assert icc_transform(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))) is None
    assert icc_transform(ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB", 5000))) is None
    assert icc_transform(ImageCms.ImageCmsProfile(io.BytesIO(swapped_profile()))) is not None


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
    assert np.array_equal(slide.read_boxes(0, 0, 300, 300)[0], pixels)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".ome.tif"])
def test_flat_images_need_a_scale_and_are_read_whole(tmp_path, suffix):
    pixels = tissue_pixels(300, 200)
    path = tmp_path / f"flat{suffix}"
    if suffix == ".png":
        Image.fromarray(pixels).save(path)
    elif suffix == ".tif":
        tifffile.imwrite(path, pixels, photometric="rgb")
    else:
        tifffile.imwrite(path, pixels.transpose(2, 0, 1), photometric="minisblack", ome=True, metadata={"axes": "CYX"})
    with pytest.raises(DataError, match=r"slide\.mpp"):
        open_slide(path)
    slide = open_slide(path, mpp=0.25)
    read, factor = slide.read_boxes(10, 20, 30, 40)
    assert factor == 2
    assert np.array_equal(read, pixels[40:120, 20:80])


def test_an_ome_tiff_brings_its_own_scale(tmp_path):
    path = tmp_path / "a.ome.tif"
    metadata = {"axes": "YXS", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25, "PhysicalSizeXUnit": "µm"}
    tifffile.imwrite(path, tissue_pixels(200, 100), photometric="rgb", ome=True, metadata=metadata)
    assert open_slide(path).scale.box == 2


def test_bad_files_are_refused_with_their_reason(tmp_path):
    (tmp_path / "empty.svs").write_bytes(b"")
    (tmp_path / "noise.svs").write_bytes(np.random.default_rng(0).bytes(4096))
    (tmp_path / "noise.png").write_bytes(np.random.default_rng(0).bytes(4096))
    for name, reason in (("empty.svs", "0 bytes"), ("noise.svs", "not a slide"), ("noise.png", "cannot be decoded")):
        with pytest.raises(DataError, match=reason):
            open_slide(tmp_path / name, mpp=0.5)
    with pytest.raises(DataError, match="cannot be read"):
        open_slide(tmp_path / "missing.svs")


def test_72_dpi_are_not_a_scale(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, tissue_pixels(300, 300), tile=(256, 256), photometric="rgb", resolution=(72, 72), resolutionunit="INCH"
    )
    with pytest.raises(DataError, match=r"has mpp 352\.\d+"):
        open_slide(path)
    assert open_slide(path, mpp=0.5).scale.source == "given mpp"


def test_a_file_that_changes_while_it_is_read_is_refused(tiny_slide):
    path = tiny_slide()
    slide = open_slide(path)
    slide.check_unchanged()
    with open(path, "ab") as stream:
        stream.write(b"more")
    with pytest.raises(DataError, match="changed while it was read"):
        slide.check_unchanged()


def test_the_scale_says_how_it_was_reached():
    scale = choose_scale(0.5, [1.0], 0.5, source="x", path=Path("a"))
    methods = [dataclasses.replace(scale, box=box).method for box in (1, 2, None)]
    assert methods == ["as it is", "box of 2", "resampled"]
