"""NDPI and MIRAX, made here in the layout of their scanners and prepared end to end."""

import os
import shutil

import numpy as np
import openslide
import pytest
from einops import reduce

from data_prep.report.estimate import estimate_slide
from data_prep.work.job import SlideJob
from data_prep.work.prepare_slide import prepare_slide
from data_prep.work.store import SlideStore
from tests.helpers.prepare import prepare_folder, samples_of
from tests.helpers.tiny_slides import open_slide, spec_of, tiny_settings, tissue_pixels
from tests.helpers.vendor_slides import write_mrxs, write_ndpi
from zoomldm.data.schema import decode_image
from zoomldm.errors import DataError

GLASS = (244, 242, 243)


def openslides(path, level, size, at=(0, 0)):
    with openslide.OpenSlide(path) as reader:
        return np.asarray(reader.read_region(at, level, size))


def prepared(tmp_path, slides):
    return prepare_folder(slides, tmp_path / "data")


@pytest.mark.parametrize(
    ("mpp", "lens", "scale"),
    [
        (0.2528, 40.0, ("mpp of the file", 1, 1, 2 * 0.2528)),  # JPEG's own halving gives OpenSlide a level 1
        (0.46, 20.0, ("mpp of the file", 0, 1, 0.46)),
        (0.2208, 40.0, ("mpp of the file", 1, None, 0.5)),  # no box comes within 10 %: resampled from level 1
        (None, 40.0, ("objective power of the file", 1, 1, 0.5)),
    ],
)
def test_ndpi_levels_and_scale(tmp_path, mpp, lens, scale):
    path = write_ndpi(tmp_path / "a.ndpi", tissue_pixels(2048, 640), mpp=mpp, lens=lens, tile_width=256)
    slide = open_slide(path)
    assert (slide.vendor, slide.downsamples[:3]) == ("hamamatsu", [1.0, 2.0, 4.0])
    source, level, box, mpp_true = scale
    assert (slide.scale.source, slide.scale.level, slide.scale.box) == (source, level, box)
    assert slide.scale.mpp_true == pytest.approx(mpp_true)
    assert slide.reader.native(level) is None  # strips: tifffile's tiles are no help
    if box:
        size = slide.level_sizes[level]
        read = slide.read_boxes(0, 0, *size)[0]
        assert np.array_equal(read, openslides(path, level, size)[..., :3])
    slide.close()


def test_mirax_levels_scale_and_what_was_not_scanned(tmp_path):
    pixels = tissue_pixels(1500, 1300)
    path = write_mrxs(tmp_path / "a.mrxs", pixels, mpp=0.5, empty=((2, 3),), image_format="PNG")
    slide = open_slide(path)
    assert (slide.vendor, slide.scale.source, slide.scale.level) == ("mirax", "mpp of the file", 0)
    slide.glass = GLASS
    read = slide.read_boxes(0, 0, 1500, 1300)[0]
    reference = openslides(path, 0, (1500, 1300))
    scanned = reference[..., 3] == 255
    assert 0.02 < 1 - scanned.mean() < 0.04  # one photo of 240 px without its overlap
    assert np.array_equal(read[scanned], pixels[scanned])
    assert (read[~scanned] == GLASS).all()
    slide.close()


def test_a_mirax_slide_is_cut_to_what_was_scanned(tmp_path):
    path = write_mrxs(tmp_path / "a.mrxs", tissue_pixels(900, 800), mpp=0.5, empty=[(y, 0) for y in range(4)])
    slide = open_slide(path)
    assert slide.bounds_px0[0] == 240  # the first column of photos is missing
    x, y = slide.to_px0(10, 20)
    assert (x, y) == (250, 20)
    assert np.array_equal(slide.read_boxes(10, 20, 100, 90)[0], openslides(path, 0, (100, 90), (x, y))[..., :3])
    slide.close()


@pytest.mark.parametrize("pitch_px", [4, 16])
def test_the_thumbnail_shows_what_was_scanned_and_nothing_beside_it(tmp_path, pitch_px):
    """Mask and tiles lie on one plane, whichever level the thumbnail is read from."""
    path = write_mrxs(tmp_path / "a.mrxs", tissue_pixels(1500, 1300), mpp=0.5, empty=[(y, 0) for y in range(6)])
    slide = open_slide(path)
    assert slide.bounds_px0[0] == 240
    columns, rows = slide.width_px // pitch_px, slide.height_px // pitch_px
    thumbnail = slide.thumbnail(pitch_px, (columns, rows))
    plane = slide.read_boxes(0, 0, columns * pitch_px, rows * pitch_px)[0]
    mean = reduce(plane.astype(float), "(h y) (w x) c -> h w c", "mean", y=pitch_px, x=pitch_px)
    assert np.abs(thumbnail - mean).mean() < 3
    slide.close()


def test_both_become_patches_that_are_openslides_pixels(tmp_path):
    slides = tmp_path / "slides"
    slides.mkdir()
    write_ndpi(slides / "n.ndpi", tissue_pixels(2048, 1600), mpp=0.25, tile_width=256)
    write_mrxs(slides / "m.mrxs", tissue_pixels(1500, 1400, 1), mpp=0.25)
    manifest = prepared(tmp_path, slides)
    states = {name: SlideStore(tmp_path / "data", name).done() for name in ("n", "m")}
    assert {name: (s.status, s.format, s.reader) for name, s in states.items()} == {
        "n": ("done", "hamamatsu", "openslide"),
        "m": ("done", "mirax", "openslide"),
    }
    for state in states.values():
        assert min(state.counts[label] for label in ("20x", "10x", "5x")) > 0
    seen = set()
    for _, meta, columns in samples_of(manifest):
        if meta.magnification == 20:
            path = slides / {"n": "n.ndpi", "m": "m.mrxs"}[meta.slide]
            region = openslides(path, 1, (16, 16), (meta.x_px0, meta.y_px0))
            assert np.array_equal(decode_image(columns["image"]["png"]), region[..., :3])
            seen.add(meta.slide)
    assert seen == {"n", "m"}


def test_a_mirax_slide_without_its_folder_says_so(tmp_path):
    path = write_mrxs(tmp_path / "a.mrxs", tissue_pixels(500, 400))
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(DataError, match="folder a/ beside it"):
        open_slide(path)


@pytest.mark.parametrize(("name", "kept"), [("Slidedat.ini", 300), ("Index.dat", 20), ("Data0000.dat", 5000)])
def test_a_mirax_slide_that_is_cut_short_is_reported(tmp_path, name, kept):
    path = write_mrxs(tmp_path / "a.mrxs", tissue_pixels(700, 600), mpp=0.5)
    os.truncate(tmp_path / "a" / name, kept)
    state = prepare_slide(SlideJob(spec=spec_of(path), settings=tiny_settings(), root=tmp_path / "data", by_area=False))
    assert state.status == "failed"
    assert state.reason.startswith(f"{path}: OpenSlide cannot open it")


def test_photos_that_cannot_be_decoded_cost_their_tiles_alone(tmp_path):
    path = write_mrxs(tmp_path / "a.mrxs", tissue_pixels(1500, 1400), mpp=0.5)
    with open(tmp_path / "a" / "Data0000.dat", "r+b") as stream:
        content = stream.read()
        photo = [i for i in range(len(content) - 1) if content[i : i + 2] == b"\xff\xd8"][24]  # of level 0
        stream.seek(photo)
        stream.write(bytes(600))
    state = prepare_slide(SlideJob(spec=spec_of(path), settings=tiny_settings(), root=tmp_path / "data", by_area=False))
    assert state.status == "done"
    assert 200 < state.unreadable_tiles <= 17 * 17  # of 16 px under a photo of 256 px


def test_an_ndpi_whose_restart_markers_are_not_where_it_says_is_reported_with_its_file(tmp_path):
    path = write_ndpi(tmp_path / "a.ndpi", tissue_pixels(2048, 640), mpp=0.5, tile_width=256)
    content = bytearray(path.read_bytes())
    for marker in range(0xD0, 0xD8):
        content = content.replace(bytes([0xFF, marker]), b"\0\0")
    path.write_bytes(content)
    job = SlideJob(spec=spec_of(path), settings=tiny_settings(), root=tmp_path / "data", by_area=False)
    state = prepare_slide(job)
    assert state.status == "failed"
    assert state.reason.startswith(f"{path}: Restart marker not found")
    assert state.reason.endswith("check the file or copy it again")
    assert estimate_slide(job) == state.reason


def test_a_mirax_slide_whose_data_change_is_done_again(tmp_path):
    path = write_mrxs(tmp_path / "a.mrxs", tissue_pixels(700, 600), mpp=0.5)
    spec = spec_of(path)
    slide = open_slide(path)
    slide.check_unchanged()
    data = tmp_path / "a" / "Data0000.dat"
    root = tmp_path / "data"
    state = prepare_slide(SlideJob(spec=spec, settings=tiny_settings(), root=root, by_area=False))
    assert state.status == "done"
    store = SlideStore(root, spec.name)
    assert store.is_done(spec, by_area=False, regions=None)
    os.utime(data, ns=(1, 1))
    assert store.is_done(spec, by_area=False, regions=None)  # the same bytes at another time
    data.write_bytes(data.read_bytes() + b"x")
    assert not store.is_done(spec, by_area=False, regions=None)
    with pytest.raises(DataError, match="changed while it was read"):
        slide.check_unchanged()
    slide.close()
