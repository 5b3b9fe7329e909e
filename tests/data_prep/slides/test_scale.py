"""From a file's scale to the ladder's."""

import dataclasses
from pathlib import Path

import pytest
import tifffile

from data_prep.slides.scale import choose_scale, mpp_of
from tests.helpers.tiny_slides import open_slide, tissue_pixels
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
        (0.25, [1.0, 2.18], 0, 2, 0.5),  # the level would give 0.545
        (0.265, [1.0, 1.9], 1, 1, 0.5035),  # level 0 would give 0.53
        (0.25, [1.0, 2.015, 4.0], 1, 1, 0.50375),
        (0.25, [1.0, 2.025, 4.0], 0, 2, 0.5),
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
    ("properties", "given", "spare", "expected"),
    [
        ({"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.25"}, None, None, 0.25),
        ({"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.25"}, None, 0.5, 0.25),
        ({"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.25"}, 0.5, None, 0.5),
        ({"openslide.objective-power": "40"}, None, None, 0.25),
        ({"openslide.objective-power": "20"}, None, 0.3, 0.5),
        ({"openslide.objective-power": "20"}, 0.3, 0.4, 0.3),
        ({"openslide.mpp-x": "352.7", "openslide.mpp-y": "352.7"}, None, 0.5, 0.5),
        ({"openslide.mpp-x": "352.7", "openslide.objective-power": "20"}, None, None, 0.5),
        ({"openslide.mpp-x": "0", "openslide.objective-power": "junk"}, None, 0.4, 0.4),
        ({}, None, 0.4, 0.4),
    ],
)
def test_where_the_scale_comes_from(properties, given, spare, expected):
    """The table's column wins, then the file, then slide.mpp."""
    assert mpp_of(properties, Path("a"), given=given, spare=spare).value == expected


@pytest.mark.parametrize(("properties", "given"), [({}, None), ({"openslide.mpp-x": "352.7"}, None), ({}, 352.7)])
def test_no_scale_or_nonsense_is_refused_with_the_way_to_give_it(properties, given):
    with pytest.raises(DataError, match=r"slide\.mpp=0\.5"):
        mpp_of(properties, Path("a"), given=given)


def test_72_dpi_are_not_a_scale(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, tissue_pixels(300, 300), tile=(256, 256), photometric="rgb", resolution=(72, 72), resolutionunit="INCH"
    )
    with pytest.raises(DataError, match=r"has mpp 352\.\d+"):
        open_slide(path)
    assert open_slide(path, mpp=0.5).scale.source == "given mpp"


def test_the_scale_says_how_it_was_reached():
    scale = choose_scale(0.5, [1.0], 0.5, source="x", path=Path("a"))
    methods = [dataclasses.replace(scale, box=box).method for box in (1, 2, None)]
    assert methods == ["as it is", "box of 2", "resampled"]
