"""slide.py of a real place or a picture: what stays, whose tokens are taken, and what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers.tiny_slides import tissue_pixels, write_slide
from tests.helpers.toy_runs import compose
from zoomldm.canvas.plan import Block
from zoomldm.canvas.store import CanvasStore
from zoomldm.commands import slide
from zoomldm.commands.requests import packed_model
from zoomldm.commands.slide_source import source_of
from zoomldm.errors import UserError

QUICK = (
    "model=reference",
    "fabric=cpu",
    "fabric.precision=32",
    "keep=true",
    "sampling.steps=2",
    "zoom.steps=2",
    "inversion.steps=2",
)
PLACE = ("source=slide", "source.x=300", "source.y=250", "root=10", "roots=2x2")
COARSE = ("source=image", "source.magnification=10")


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Return a folder with a slide and pictures of it."""
    folder = tmp_path_factory.mktemp("real")
    pixels = tissue_pixels(600, 500)
    write_slide(folder / "a.tif", pixels)
    write_slide(folder / "b.tif", np.ascontiguousarray(pixels[:, ::-1] // 2 + 60))
    Image.fromarray(pixels[160:300, 192:300]).save(folder / "picture.png")
    return folder


def asked(tmp_path, *words):
    cfg = compose("slide", tmp_path, f"out={tmp_path / 's.ome.tiff'}", *QUICK, *words)
    slide.check(cfg)
    return cfg


def drawn(tmp_path, *words):
    """Draw; return a function from a level's number to its pixels and tokens, and the levels."""
    cfg = asked(tmp_path, *words)
    slide.run(cfg)
    levels, store = slide.drawn_levels(cfg, source_of(cfg)), CanvasStore(tmp_path / "s.work", block=cfg.block)

    def at(number):
        whole = Block(0, 0, levels[number].rows, levels[number].columns)
        return store.pixels(levels[number], whole), store.tokens(levels[number], whole)

    return cfg, levels, at


def tokens_of(cfg, area):
    model = packed_model(cfg).load("", wants_edm=False).model.module
    with torch.inference_mode():
        return model.tokens(area.conditions.grids, area.conditions.rung).numpy()


def place(real, *words):
    return (*PLACE, f"source.slide={real / 'a.tif'}", *words)


def test_roots_are_the_pixels_and_tokens_of_their_place(real, tmp_path):
    cfg, levels, at = drawn(tmp_path, *place(real, "target=10"))
    (area,) = source_of(cfg).area([levels[0].rung], 2, 2)
    pixels, tokens = at(0)
    np.testing.assert_array_equal(pixels, area.pixels)
    np.testing.assert_allclose(tokens.reshape(4, *tokens.shape[2:]), tokens_of(cfg, area), atol=1e-5)
    assert pixels.std() > 5
    assert len(np.unique(tokens.reshape(4, -1).round(3), axis=0)) == 4


def test_a_coarse_picture_is_the_root_and_is_zoomed_into(real, tmp_path, capsys):
    picture = np.asarray(Image.open(real / "picture.png"))
    _, levels, at = drawn(tmp_path, *COARSE, f"source.path={real / 'picture.png'}")
    assert [(one.rung.magnification, one.rows, one.columns) for one in levels] == [(10, 4, 3), (20, 8, 6)]
    np.testing.assert_array_equal(at(0)[0], picture[6:134, 6:102])  # the whole patches in its middle
    finer = torch.from_numpy(at(1)[0]).permute(2, 0, 1).float()[None]
    means = torch.nn.functional.avg_pool2d(finer, 4)[0]
    coarse = torch.nn.functional.avg_pool2d(torch.from_numpy(at(0)[0].copy()).permute(2, 0, 1).float()[None], 2)[0]
    assert (means - coarse).abs().mean() < 0.6 * (coarse - coarse.mean((1, 2), keepdim=True)).abs().mean() + 12


def test_what_a_mask_leaves_out_stays_on_every_level(real, tmp_path):
    cfg, levels, at = drawn(tmp_path, *place(real, "mask=[20,40,50,60]"))
    areas = source_of(cfg).area([level.rung for level in levels], 2, 2)
    for number, (top, left, bottom, right) in enumerate([(20, 10, 50, 35), (40, 20, 100, 70)]):
        changed = (at(number)[0] != areas[number].pixels).any(-1)
        assert changed[top:bottom, left:right].mean() > 0.9
        changed[top:bottom, left:right] = False
        assert not changed.any()
    tokens, own = at(1)[1], tokens_of(cfg, areas[1]).reshape(4, 4, 16, -1)
    np.testing.assert_allclose(tokens[:, 3], own[:, 3], atol=1e-5)
    assert np.abs(tokens[2, 1] - own[2, 1]).max() > 0.1


def test_a_box_that_stays_and_a_picture_of_a_mask(real, tmp_path):
    white = np.full((128, 128), 255, np.uint8)
    white[32:64, 64:128] = 0
    Image.fromarray(white).save(tmp_path / "mask.png")
    found = []
    for number, word in enumerate(("stays=[64,32,64,32]", f"mask={tmp_path / 'mask.png'}")):
        (tmp_path / str(number)).mkdir()
        _, _, at = drawn(tmp_path / str(number), *place(real, word))
        found.append(at(1)[0])
    np.testing.assert_array_equal(*found)


def test_a_place_drawn_anew_keeps_its_tokens_or_gets_anothers_at_some_magnifications(real, tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
    cfg, levels, at = drawn(tmp_path / "a", *place(real, "mask=all"))
    areas = source_of(cfg).area([level.rung for level in levels], 2, 2)
    for number, area in enumerate(areas):
        assert (at(number)[0] != area.pixels).any(-1).mean() > 0.9
        tokens = at(number)[1]
        np.testing.assert_allclose(tokens.reshape(-1, *tokens.shape[2:]), tokens_of(cfg, area), atol=1e-5)
    other = f"other={{slide:{real / 'b.tif'},x:300,y:250}}"
    mixed, _, mixed_at = drawn(tmp_path / "b", *place(real, "mask=all", other, "other_at=[20]"))
    np.testing.assert_allclose(mixed_at(0)[1], at(0)[1], atol=1e-5)
    theirs = compose("slide", tmp_path, "out=s.ome.tiff", *QUICK, *PLACE, f"source.slide={real / 'b.tif'}")
    _, area = source_of(theirs).area([level.rung for level in levels], 2, 2)
    tokens = mixed_at(1)[1]
    np.testing.assert_allclose(tokens.reshape(-1, *tokens.shape[2:]), tokens_of(mixed, area), atol=1e-4)


def test_what_is_known_of_a_place_counts_among_the_bytes_that_are_needed(real, tmp_path):
    def needed(*words):
        cfg = asked(tmp_path, *place(real, *words))
        return slide._bytes(cfg, slide.drawn_levels(cfg, source_of(cfg)))

    patch = 4 * 32 * 32 + 4 * 16 * 128
    assert needed("mask=all") - needed() == 16 * patch  # of 20x; the roots' are among both


def test_another_place_is_another_slide(real, tmp_path):
    slide.run(asked(tmp_path, *place(real, "target=10")))
    slide.run(asked(tmp_path, *place(real, "target=10")))  # done already
    with pytest.raises(UserError, match="another place"):
        slide.run(asked(tmp_path, *place(real, "target=10", "source.x=340")))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*COARSE, "source.path={}/picture.png", "root=5"), r"root=5: .*is of 10x"),
        (
            ("source=image", "source.magnification=7", "source.path={}/picture.png"),
            "resize it to 71% and give source.magnification=5",
        ),
        ((*COARSE, "source.path={}/picture.png", "roots=5x3"), "has 4x3 patches"),
        ((*COARSE, "source.path={}/picture.png", "mask=[0,0,9,9]"), "shows 10x alone"),
        ((*COARSE, "source.path={}/none.png"), "No such file"),
        ((*PLACE, "source.slide={}/a.tif", "roots=20x20"), "choose fewer"),
        ((*PLACE, "source.slide={}/a.tif", "source.x=9000"), "lies off"),
        ((*PLACE, "source.slide={}/a.tif", "source.x=[300,340]", "source.y=[250,250]"), "a slide is drawn of one"),
        ((*PLACE, "source.slide={}/a.tif", "mask=[100,100,40,40]"), "inside 128 x 128 px"),
        ((*PLACE, "source.slide={}/a.tif", "mask={}/picture.png"), "give a mask of that size"),
        ((*PLACE, "source.slide={}/a.tif", "mask={}/a.txt"), "cannot be read as a picture"),
        ((*PLACE, "source.slide={}/a.tif", "mask=all", "stays=[0,0,9,9]"), "give one of them"),
        ((*PLACE, "source.slide={}/a.tif", "other={{x:300,y:250}}"), "add mask=all"),
        ((*PLACE, "source.slide={}/a.tif", "other_at=[20]"), "belongs to other="),
        ((*PLACE, "source.slide={}/a.tif", "mask=all", "other={{x:300,y:250}}", "other_at=[5]"), "expected some of"),
        (("source=oracle", "source.split=test"), "shards know no neighbours"),
        (("inversion.steps=0",), "inversion.steps"),
    ],
)
def test_what_cannot_be_drawn_of_a_place_is_said_and_nothing_is_written(real, tmp_path, words, said):
    with pytest.raises(UserError, match=said):
        slide.run(asked(tmp_path, *(word.format(real) for word in words)))
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".tiff", ".work")]
