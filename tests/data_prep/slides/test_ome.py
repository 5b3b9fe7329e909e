"""The scale of OME-TIFFs, tiled ones too, and what is said of kinds that are to be converted."""

import numpy as np
import pytest
import tifffile

from data_prep.slides.ome import ome_properties
from tests.helpers.tiny_slides import open_slide, tissue_pixels
from zoomldm.errors import DataError


def write_ome(path, pixels, **metadata):
    """Write a tiled pyramid as QuPath and bfconvert do, the lower level in a sub-IFD."""
    with tifffile.TiffWriter(path, ome=True) as tiff:
        tiff.write(pixels, tile=(256, 256), photometric="rgb", subifds=1, metadata={"axes": "YXS", **metadata})
        tiff.write(pixels[::2, ::2], tile=(256, 256), photometric="rgb", subfiletype=1)
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
