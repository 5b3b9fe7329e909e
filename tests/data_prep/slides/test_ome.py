"""The scale of OME-TIFFs, tiled ones too, and what is said of kinds that are to be converted."""

import numpy as np
import pytest
import tifffile

from data_prep.slides.ome import ome_properties
from tests.helpers.tiny_slides import open_slide, tissue_pixels
from zoomldm.errors import DataError


def write_ome(path, pixels, *, steps=(2,), lower=None, **metadata):
    """Write a tiled pyramid as QuPath and bfconvert do, the lower levels in sub-IFDs; ``lower``: how they are coded."""
    tiled = {"tile": (256, 256), "photometric": "rgb"}
    with tifffile.TiffWriter(path, ome=True) as tiff:
        tiff.write(pixels, subifds=len(steps), metadata={"axes": "YXS", **metadata}, **tiled)
        for step in steps:
            tiff.write(np.ascontiguousarray(pixels[::step, ::step]), subfiletype=1, **tiled, **(lower or {}))
    return path


@pytest.mark.parametrize(("size", "unit"), [(0.25, None), (0.25, "µm"), (250, "nm"), (0.00025, "mm")])
def test_a_tiled_ome_tiff_brings_its_own_scale(tmp_path, size, unit):
    pixels = tissue_pixels(700, 500)
    told = {f"PhysicalSize{axis}": size for axis in "XY"}
    told |= {f"PhysicalSize{axis}Unit": unit for axis in "XY" if unit}
    slide = open_slide(write_ome(tmp_path / "a.ome.tif", pixels, **told))
    assert slide.scale.mpp_level0 == pytest.approx(0.25)
    assert (slide.scale.source, slide.scale.box) == ("mpp of the file", 2)
    assert np.array_equal(slide.read_level(0, 10, 20, 300, 200), pixels[20:220, 10:310])


def test_what_is_no_scale_is_none(tmp_path):
    with pytest.raises(DataError, match="has no scale"):
        open_slide(write_ome(tmp_path / "a.ome.tif", tissue_pixels(300, 300)))
    with pytest.raises(DataError, match=r"mpp 0\.25 x 0\.5"):
        open_slide(write_ome(tmp_path / "b.ome.tif", tissue_pixels(300, 300), PhysicalSizeX=0.25, PhysicalSizeY=0.5))
    ome = '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Pixels {}/></OME>'
    assert ome_properties(ome.format('PhysicalSizeX="0.5" PhysicalSizeXUnit="pixel"')) == {}
    assert ome_properties(ome.format('PhysicalSizeX="fine"')) == {}
    assert ome_properties('Aperio <Pixels PhysicalSizeX="0.5">') == {}
    assert ome_properties(None) == {}


def test_a_czi_that_cannot_be_opened_is_to_be_converted(tmp_path):
    (tmp_path / "a.czi").write_bytes(b"ZISRAWFILE" + bytes(3000))
    with pytest.raises(DataError, match=r"a\.czi: .*convert it to a pyramidal OME-TIFF.*bioformats2raw"):
        open_slide(tmp_path / "a.czi")


def levels_read(slide, monkeypatch):
    """Return the list in which a slide's levels are noted as they are read."""
    levels, read_level = [], slide.read_level
    monkeypatch.setattr(slide, "read_level", lambda level, *box: levels.append(level) or read_level(level, *box))
    return levels


MPP = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}


def test_the_thumbnail_is_read_from_sub_ifds_and_patches_are_not(tmp_path, monkeypatch):
    """Of sub-IFDs nobody knows whether their pixels are averages; a mask pixel is a mean of several."""
    pixels = tissue_pixels(1600, 1200)
    slide = open_slide(write_ome(tmp_path / "a.ome.tif", pixels, steps=(2, 4, 16), **MPP))
    assert slide.downsamples == [1, 2, 4, 16]
    assert (slide.scale.level, slide.scale.box) == (0, 2)
    levels = levels_read(slide, monkeypatch)
    thumbnail = slide.thumbnail(8.0, (100, 75))
    assert set(levels) == {2}
    wanted = pixels[::4, ::4].reshape(75, 4, 100, 4, 3).mean((1, 3))
    assert np.abs(thumbnail - wanted).max() <= 0.51
    levels.clear()
    assert np.array_equal(slide.read_boxes(100, 50, 64, 64)[0], pixels[100:228, 200:328])
    assert levels == [0]


def test_a_damaged_sub_ifd_is_said_and_level_0_taken(tmp_path):
    pixels = tissue_pixels(1600, 1200)
    path = write_ome(tmp_path / "a.ome.tif", pixels, steps=(4,), lower={"compression": "zlib"}, **MPP)
    assert open_slide(path).downsamples == [1]  # coded otherwise than level 0, which says nothing of it then
    pixels = np.ascontiguousarray(pixels)
    with tifffile.TiffWriter(tmp_path / "b.ome.tif", ome=True) as tiff:
        tiled = {"tile": (256, 256), "photometric": "rgb", "compression": "zlib"}
        tiff.write(pixels, subifds=1, metadata={"axes": "YXS", **MPP}, **tiled)
        tiff.write(np.ascontiguousarray(pixels[::4, ::4]), subfiletype=1, **tiled)
    with tifffile.TiffFile(tmp_path / "b.ome.tif") as tiff:
        page = tiff.pages[0].pages[0]
        offset, size = page.dataoffsets[0], page.databytecounts[0]
    with open(tmp_path / "b.ome.tif", "r+b") as stream:
        stream.seek(offset)
        stream.write(bytes(size))
    slide = open_slide(tmp_path / "b.ome.tif")
    thumbnail = slide.thumbnail(8.0, (100, 75))
    assert slide.damaged_levels == [1]
    assert np.abs(thumbnail - pixels.reshape(75, 16, 100, 16, 3).mean((1, 3))).max() <= 0.51
