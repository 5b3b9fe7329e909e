"""Pictures and places on slides as sources: what they give, and what is refused before anything is written."""

from types import SimpleNamespace

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from data_prep.places.image import ImageSource
from data_prep.places.settings import settings_of, spec_of
from data_prep.places.slide import SlideSource
from tests.helpers.prepare import prepare_folder
from tests.helpers.tiny_slides import READERS, tissue_pixels, write_slide
from tests.helpers.tiny_slides import spec_of as line_of
from zoomldm.config import Option
from zoomldm.data.manifest import Manifest
from zoomldm.errors import ConfigError, DataError, UserError

ENCODER = Option("encoder", {"_target_": "zoomldm.encoder.stats.StatsEncoder", "name": "stats"})


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Return a data set of one slide, and a folder with the slide and pictures cut out of it."""
    root = tmp_path_factory.mktemp("places")
    (root / "slides").mkdir()
    pixels = tissue_pixels(600, 500)
    write_slide(root / "slides" / "a.tif", pixels)
    manifest = prepare_folder(root / "slides", root / "data", test_fraction=0.0)
    manifest.config = {"min_tissue": 0.5, "stride": 1.0, "max_patches_per_slide": None, "encode_background": False}
    manifest.save(root / "data")
    picture = Image.fromarray(pixels[160:416, 192:448])
    picture.save(root / "good.png")
    picture.convert("RGBA").save(root / "alpha.png")
    picture.convert("CMYK").save(root / "cmyk.jpg")
    picture.convert("L").save(root / "grey.png")
    picture.convert("P").save(root / "palette.png")
    picture.crop((0, 0, 40, 300)).save(root / "small.png")
    deep = pixels[:64, :64].astype(np.uint16) * 257
    (root / "deep.png").write_bytes(imagecodecs.png_encode(deep))
    tifffile.imwrite(root / "deep.tif", deep)
    (root / "text.png").write_text("a picture")
    return SimpleNamespace(root=root, manifest=Manifest.load(root / "data"))


def shared(prepared) -> dict:
    return {"manifest": prepared.manifest, "encoder": ENCODER, "readers": READERS}


def image(prepared, name="good.png", **values) -> ImageSource:
    values = {"mpp": 0.5, "magnification": None, "x": None, "y": None} | values
    names = name if isinstance(name, list) else [name]
    return ImageSource(name="image", path=[str(prepared.root / one) for one in names], **values, **shared(prepared))


def slide(prepared, **values) -> SlideSource:
    values = {"slide": str(prepared.root / "slides" / "a.tif"), "mpp": None, "min_tissue": None} | values
    return SlideSource(name="slide", **values, **shared(prepared))


def test_a_picture_of_a_place_gives_its_condition(prepared):
    """The grid of the picture is the slide's where the picture lies on the slide's tiles."""
    rung = prepared.manifest.ladder[2]
    of_picture, of_slide = image(prepared), slide(prepared, x=192 + 128, y=160 + 128)
    assert not of_picture.why_not(rung)
    assert not of_slide.why_not(rung)
    a, b = (source.read(rung, 0, 1, with_grids=True) for source in (of_picture, of_slide))
    same = (a.grids[0].values == b.grids[0].values).all(-1)
    assert a.grids[0].values.dtype == torch.float16
    assert same.all()
    np.testing.assert_array_equal(of_picture.references(rung, 1), of_slide.references(rung, 1))
    assert b.meta[0].slide == "a"


def test_several_places_and_pictures_are_several_conditions(prepared):
    rung = prepared.manifest.ladder[1]
    found = slide(prepared, x=[250, 350], y=[250, 250]).read(rung, 0, 2, with_grids=True)
    assert len(found) == 2
    assert not torch.equal(found.grids[0].values[0], found.grids[0].values[1])
    assert image(prepared, ["good.png", "good.png"]).count(rung) == 2
    assert slide(prepared, x=[250, 350], y=[250, 250]).label == "slide-a-x250-y250-and-1-more"
    assert image(prepared).label == "image-good"
    with pytest.raises(ConfigError, match="give a y for every x"):
        slide(prepared, x=[250, 350], y=250)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("alpha.png", r"alpha.*expected a picture of 8-bit RGB"),
        ("cmyk.jpg", "has CMYK colours, expected"),
        ("grey.png", "has grey levels, expected"),
        ("palette.png", "has a palette, expected"),
        ("deep.png", "16 bits a channel"),
        ("deep.tif", "uint16 pixels, expected 8-bit|16 bits"),
        ("text.png", "cannot be read as a picture"),
        ("none.png", "No such file"),
    ],
)
def test_what_is_no_picture_of_8_bit_rgb_is_refused(prepared, name, said):
    with pytest.raises(DataError, match=said):
        image(prepared, name)


def test_a_picture_of_another_size_or_scale_is_refused(prepared):
    rung = prepared.manifest.ladder[1]
    assert "a region of 5x has 64 x 64" in image(prepared, "small.png").why_not(prepared.manifest.ladder[2])
    assert image(prepared, "small.png").why_not(rung) is None
    assert "20 x 150 px of 0.5 mpp" in image(prepared, "small.png", mpp=0.25).why_not(rung)
    assert "lies off the picture" in image(prepared, x=900, y=10).why_not(rung)
    for values, said in [
        ({"mpp": 0.5, "magnification": 20}, "give one of them"),
        ({"mpp": None}, r"has no scale; give its scale with source\.mpp=0\.5"),
        ({"mpp": 0.0}, "expected 0.05 to 20 mpp"),
        ({"mpp": "abc"}, "expected a number"),
    ]:
        with pytest.raises(UserError, match=said):
            image(prepared, **values)


def test_a_picture_coarser_than_its_tiles_has_no_conditions_but_an_area(prepared):
    ladder = prepared.manifest.ladder
    for values in ({"mpp": 2.0}, {"mpp": None, "magnification": 5}):
        source = image(prepared, **values)
        assert "too coarse" in source.why_not(ladder[0])
        assert source.own_rung() == ladder[2]
        assert source.extent(ladder[2]) == (16, 16)
    (area,) = source.area([ladder[2]], 2, 3)
    assert area.conditions is None
    whole = source.area([ladder[2]], 16, 16)[0].pixels
    np.testing.assert_array_equal(area.pixels, whole[112:144, 104:152])


def test_the_area_of_a_place_is_its_regions_side_by_side(prepared):
    rungs = prepared.manifest.ladder.rungs[2:0:-1]
    source = slide(prepared, x=300, y=250)
    coarse, fine = source.area(rungs, 2, 2)
    assert coarse.pixels.shape == (32, 32, 3)
    assert fine.pixels.shape == (64, 64, 3)
    means = fine.pixels.reshape(32, 2, 32, 2, 3).mean((1, 3))
    assert np.abs(means - coarse.pixels).max() <= 1
    first = coarse.conditions.meta[0]
    one = slide(prepared, x=first.x_px0 + 32, y=first.y_px0 + 32).read(rungs[0], 0, 1, with_grids=True)
    assert one.meta[0] == first
    assert torch.equal(one.grids[0].values[0], coarse.conditions.grids[0].values[0])
    grids = fine.conditions.grids[0].values
    assert torch.equal(torch.cat([grids[0], grids[1]], 1), coarse.conditions.grids[0].values[0, :2])
    with pytest.raises(DataError, match="choose fewer"):
        source.area(rungs, 8, 8)


def test_a_place_off_the_slide_or_on_glass_is_refused(prepared):
    rung = prepared.manifest.ladder[1]
    assert "lies off a.tif, which has x from 0 to 599" in slide(prepared, x=600, y=10).why_not(rung)
    assert "lies off" in slide(prepared, x=300, y=-1).why_not(rung)
    assert "0% of the region of 10x there is tissue" in slide(prepared, x=10, y=10).why_not(rung)
    edge = slide(prepared, x=66, y=250)
    tissue = edge.place(edge.spots[0], rung).tissue
    assert 0 < tissue < 0.5
    assert edge.why_not(rung)
    assert slide(prepared, x=66, y=250, min_tissue=tissue / 2).why_not(rung) is None
    with pytest.raises(ConfigError, match=r"needs source\.slide="):
        slide(prepared, x=1, y=None)


def test_a_data_set_of_another_encoder_or_without_its_settings_is_refused(prepared):
    other = Option("encoder", {"_target_": "zoomldm.encoder.stats.StatsEncoder", "name": "hipt"})
    with pytest.raises(DataError, match="encoder=stats"):
        settings_of(prepared.manifest, encoder=other, readers=READERS)
    bare = Manifest.load(prepared.root / "data")
    bare.root = prepared.root
    with pytest.raises(DataError, match="how its slides were read"):
        settings_of(bare, encoder=ENCODER, readers=READERS)


def test_a_slide_of_the_data_set_is_read_as_its_line_of_the_table_said(tiny_slide, tmp_path):
    path = tiny_slide("a", mpp=None, width=520, height=400)
    line = line_of(path, mpp=0.25, icc=False, patient="p")
    manifest = prepare_folder(path.parent, tmp_path / "data", specs=[line], test_fraction=0.0)
    assert spec_of(manifest, path, mpp=None) == line
    assert spec_of(manifest, path, mpp=0.5).mpp == 0.5
    other = tiny_slide("a", mpp=None, width=530, height=400, folder="others")
    assert spec_of(manifest, other, mpp=None) == line_of(other)
