"""One slide: its patches are its pixels, and what is wrong with it is said and stays its own."""

import errno
import json
import os
import struct
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile

from data_prep.slides.files import readable_stamp
from data_prep.work import prepare_slide as work
from data_prep.work import read_slide as reading
from data_prep.work.store import SlideStore
from tests.helpers.prepare import prepare_folder, samples_of
from tests.helpers.tiny_slides import GLASS, write_slide
from zoomldm.data.schema import decode_image
from zoomldm.errors import DataError, UserError


def test_a_patch_is_what_openslide_gives_for_its_place(tiny_slide, tmp_path):
    """Region, coordinates and rounding in one: level-0 pixels of the sample, averaged, are the patch."""
    tiny_slide("a", mpp=0.25, width=701, height=605)
    tiny_slide("b", mpp=0.25, width=540, height=512, seed=1)
    manifest = prepare_folder(tmp_path / "slides", tmp_path / "data")
    checked = set()
    for _, meta, columns in samples_of(manifest):
        with openslide.OpenSlide(tmp_path / "slides" / f"{meta.slide}.tif") as slide:
            size = (meta.region_px0, meta.region_px0)
            width, height = slide.dimensions
            if meta.x_px0 + size[0] > width or meta.y_px0 + size[1] > height:
                continue
            region = np.asarray(slide.read_region((meta.x_px0, meta.y_px0), 0, size).convert("RGB"), np.int64)
        box = meta.region_px0 // 16
        sums = region.reshape(16, box, 16, box, 3).sum((1, 3))
        assert np.array_equal(decode_image(columns["image"]["png"]), (2 * sums + box * box) // (2 * box * box))
        checked.add(meta.magnification)
    assert checked == {20.0, 10.0, 5.0, 2.5}


def test_beyond_the_edge_a_patch_is_the_slides_own_glass(tmp_path):
    pixels = np.full((300, 300, 3), GLASS, np.uint8)
    pixels[60:, 60:] = (180, 90, 150)  # tissue up to the edges, which lie 4 px before the end of their tiles
    (tmp_path / "slides").mkdir()
    write_slide(tmp_path / "slides" / "a.tif", pixels)
    manifest = prepare_folder(tmp_path / "slides", tmp_path / "data")
    seen = set()
    for _, meta, columns in samples_of(manifest):
        beyond = (meta.x_px0 + meta.region_px0 - 300) * 16 // meta.region_px0
        if beyond > 0:
            patch = decode_image(columns["image"]["png"])
            assert (patch[:, -beyond:] == GLASS).all()
            assert (patch[-2, : 16 - beyond - 1] != 255).all()
            seen.add(meta.magnification)
    assert {20.0, 10.0, 5.0} <= seen


def test_every_bad_input_is_reported_with_its_reason_and_the_others_go_on(slides, tiny_slide, tmp_path):
    rng = np.random.default_rng(0)
    whole = tiny_slide("cut", width=900, height=900, jpeg=True, seed=3).read_bytes()
    (slides / "cut.tif").write_bytes(whole[: len(whole) // 3])
    (slides / "zero.svs").write_bytes(b"")
    (slides / "noise.svs").write_bytes(rng.bytes(9999))
    tiny_slide("unscaled", mpp=None)
    (slides / "sub").mkdir()
    (slides / "sub" / "a.tif").write_bytes((slides / "a.tif").read_bytes())
    (slides / "dangling.svs").symlink_to(slides / "nowhere.svs")
    manifest = prepare_folder(slides, tmp_path / "data")
    reasons = {line["slide"]: line["reason"] for line in manifest.slides if line["status"] == "failed"}
    assert set(reasons) == {"cut", "zero", "noise", "unscaled", "a", "dangling"}
    for name, part in {
        "zero": "0 bytes",
        "noise": "not a slide",
        "unscaled": "slide.mpp=0.5",
        "a": "the same slide name",
        "dangling": "cannot be read",
        "cut": "cut.tif",
    }.items():
        assert part in reasons[name]
    page = (tmp_path / "data" / "qc" / "index.html").read_text()
    for name in reasons:
        assert f"<b>{name}</b> <b class=bad>failed</b>" in page
    assert sorted(manifest.patients["train"] + manifest.patients["test"]) == ["a", "b", "c"]


def test_an_unreadable_file_is_reported(slides, tmp_path):
    (slides / "folder.svs").mkdir()
    with pytest.raises(DataError, match="a folder, not a slide"):
        readable_stamp(slides / "folder.svs")
    if os.geteuid():
        (slides / "locked.svs").write_bytes(b"x")
        (slides / "locked.svs").chmod(0)
        with pytest.raises(DataError, match="cannot be read"):
            readable_stamp(slides / "locked.svs")


def test_a_slide_that_changes_while_it_is_read_fails_alone(slides, tmp_path, monkeypatch):
    original = reading.find_tissue

    def touched(slide, *arguments):
        if slide.spec.name == "b":
            os.utime(slide.path, ns=(1, 1))
        return original(slide, *arguments)

    monkeypatch.setattr(reading, "find_tissue", touched)
    manifest = prepare_folder(slides, tmp_path / "data")
    assert [s["slide"] for s in manifest.slides if "changed while it was read" in s["reason"]] == ["b"]


def test_a_full_disk_is_said_and_leaves_nothing_half_written(slides, tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(UserError, match="the disk is full"):
        prepare_folder(slides, tmp_path / "data")
    assert [p.name for p in (tmp_path / "data" / "slides").iterdir() if p.name != ".locks"] == ["settings.json"]
    assert not (tmp_path / "data" / "manifest.json").exists()


def test_a_slide_that_yields_nothing_stands_out(slides, tmp_path):
    glass = np.random.default_rng(0).normal(GLASS, 0.8, (400, 400, 3)).astype(np.uint8)
    write_slide(slides / "empty.tif", glass)
    manifest = prepare_folder(slides, tmp_path / "data")
    line = next(line for line in manifest.slides if line["slide"] == "empty")
    assert (line["status"], line["reason"]) == ("done", "no region has enough tissue")
    assert "<figure class=empty>" in (tmp_path / "data" / "qc" / "index.html").read_text()


def test_a_damaged_native_tile_is_skipped_counted_and_listed(tiny_slide, tmp_path):
    path = tiny_slide("a", width=900, height=900, jpeg=True, seed=1, tile=128)
    tiny_slide("b", width=600, height=600, seed=2)
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        offset, size = page.dataoffsets[3 * 8 + 3], page.databytecounts[3 * 8 + 3]
    with open(path, "r+b") as stream:
        stream.seek(offset)
        stream.write(b"\0" * size)
    manifest = prepare_folder(path.parent, tmp_path / "data")
    line = next(line for line in manifest.slides if line["slide"] == "a")
    assert (line["status"], line["unreadable_tiles"]) == ("done", 64)
    assert line["regions_skipped"] > 64
    state = json.loads((tmp_path / "data" / "slides" / "a" / "state.json").read_bytes())
    assert [384, 384] in state["unreadable_px0"]
    for _, meta, _ in samples_of(manifest):
        if meta.slide == "a":
            assert not (
                meta.x_px0 < 512
                and meta.y_px0 < 512
                and meta.x_px0 + meta.region_px0 > 384
                and meta.y_px0 + meta.region_px0 > 384
            )


def test_a_damaged_tile_of_the_thumbnails_level_falls_back_to_the_next_finer_one(tiny_slide, tmp_path, capsys):
    path = tiny_slide("a", width=1100, height=900, jpeg=True, downsamples=(1, 2, 4))
    tiny_slide("b", seed=1)
    with tifffile.TiffFile(path) as tiff:
        spans = [(page.dataoffsets[0], page.databytecounts[0]) for page in tiff.pages[1:]]
    whole = path.read_bytes()
    for damaged, levels in ((spans[1:], [2]), (spans, [2, 1])):
        content = bytearray(whole)
        for offset, size in damaged:
            content[offset : offset + size] = bytes(size)
        path.write_bytes(content)
        manifest = prepare_folder(tmp_path / "slides", tmp_path / f"data{len(levels)}")
        state = SlideStore(Path(manifest.root), "a").done()
        assert state.damaged_levels == levels
        words = f"level {' and '.join(map(str, levels))} cannot be decoded"
        assert f"warning: a: {words}" in capsys.readouterr().out
        assert words in (tmp_path / f"data{len(levels)}" / "qc" / "index.html").read_text()
        assert state.num_samples > 50
        assert state.unreadable_tiles == 0


def test_what_a_library_makes_of_a_damaged_file_is_the_slides_fault_alone(slides, tmp_path, monkeypatch):
    original = reading.Slide

    def damaged(spec, *arguments, **options):
        if spec.name == "b":
            raise struct.error("unpack requires a buffer of 4 bytes")
        return original(spec, *arguments, **options)

    monkeypatch.setattr(reading, "Slide", damaged)
    manifest = prepare_folder(slides, tmp_path / "data")
    reasons = [line["reason"] for line in manifest.slides if line["status"] == "failed"]
    assert reasons == [
        f"{slides / 'b.tif'}: cannot be opened (error: unpack requires a buffer of 4 bytes); "
        "check the file or copy it again"
    ]


def test_a_mistake_of_ours_ends_the_run_and_fails_no_slide(slides, tmp_path, monkeypatch):
    monkeypatch.setattr(work, "find_regions", lambda *arguments, **options: len(None))
    with pytest.raises(TypeError):
        prepare_folder(slides, tmp_path / "data")
    assert not list((tmp_path / "data" / "slides").glob("*/state.json"))
