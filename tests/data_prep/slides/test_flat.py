"""Images without tiles."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.helpers.tiny_slides import open_slide, tissue_pixels
from zoomldm.errors import DataError


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
