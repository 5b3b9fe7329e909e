"""slide.py on untrained models: the file, the same pixels by any way, going on, and what is refused."""

import threading

import numpy as np
import openslide
import pytest
import torch
from torch.nn import functional

from tests.helpers.toy_runs import compose, make_toy_runs, save
from zoomldm.canvas.plan import Block, levels_of
from zoomldm.canvas.store import PIXELS, CanvasStore
from zoomldm.commands import slide
from zoomldm.commands.check import stage_in
from zoomldm.errors import ConfigError, UserError
from zoomldm.launch.settings import FabricSettings

STRICT = ("agreement.start=0.8", "agreement.until=0.3", "agreement.reach=1", "agreement.final=2")
ROOTS = ("root=10", "roots=2x3", "block=2", "sampling.steps=3", "zoom.steps=2", "run=zoom", *STRICT)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Make untrained runs with a zooming EDM beside the plain one."""
    root = make_toy_runs(tmp_path_factory.mktemp("slide"))
    words = ("model=edm_zoom_tiny", "run_name=zooming", "zoomldm.run=zoom", "model.width=32", "model.depth=1")
    cfg = compose("train", root, *words, "data.ladder.num_rungs=2")
    sizes = {"num_rungs": 2, "num_tokens": 16, "token_dim": 128}
    torch.manual_seed(0)
    save(root, cfg, "edm", stage_in(cfg).untrained(**sizes), sizes)
    return root


def asked(root, out, *words):
    cfg = compose("slide", root, f"out={out}", "edm=zooming", *ROOTS, *words)
    slide.check(cfg)
    return cfg


def pixels(path, level=0):
    with openslide.OpenSlide(path) as found:
        size = found.level_dimensions[level]
        return np.asarray(found.read_region((0, 0), level, size))[..., :3].astype(int)


@pytest.fixture(scope="module")
def drawn(root, tmp_path_factory):
    path = tmp_path_factory.mktemp("drawn") / "s.ome.tiff"
    slide.run(asked(root, path, "keep=true"))
    return path


def test_a_slide_has_its_levels_and_agrees_with_the_one_above(drawn):
    with openslide.OpenSlide(drawn) as found:
        assert found.level_dimensions == ((192, 128), (96, 64))
        assert float(found.properties["openslide.mpp-x"]) == pytest.approx(0.5)
    fine, coarse = (torch.from_numpy(pixels(drawn, level)).permute(2, 0, 1).float() for level in (0, 1))
    assert (functional.avg_pool2d(fine, 2) - coarse).abs().mean() < 4
    assert fine.std() > 1


def test_the_same_seed_draws_the_same_whatever_the_batch_and_another_seed_another(root, drawn, tmp_path):
    slide.run(asked(root, tmp_path / "a.ome.tiff", "batch_size=3"))
    slide.run(asked(root, tmp_path / "b.ome.tiff", "seed=1"))
    assert np.abs(pixels(tmp_path / "a.ome.tiff") - pixels(drawn)).max() <= 2
    assert (pixels(tmp_path / "b.ome.tiff") != pixels(drawn)).mean() > 0.01
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ome.tiff", "b.ome.tiff"]  # no work, no lock


def draw_by_two(cfg):
    """Draw as two processes do, here threads."""
    barrier, threads_of_torch = threading.Barrier(2), torch.get_num_threads()

    class Fabric:
        device, world_size = torch.device("cpu"), 2

        def __init__(self, rank):
            self.global_rank = rank

        def barrier(self):
            barrier.wait(120)

    found = []

    def draw(rank):
        try:
            slide._run(cfg, None, slide.drawn_levels(cfg, None), FabricSettings(**cfg.fabric), Fabric(rank))
        except BaseException as error:
            found.append(error)
            barrier.abort()

    workers = [threading.Thread(target=draw, args=(rank,)) for rank in range(2)]
    torch.set_num_threads(1)
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        torch.set_num_threads(threads_of_torch)
    assert not found


def test_processes_share_the_blocks_and_draw_the_same_pixels(root, drawn, tmp_path):
    draw_by_two(asked(root, tmp_path / "two.ome.tiff"))
    assert np.abs(pixels(tmp_path / "two.ome.tiff") - pixels(drawn)).max() <= 1


def test_a_stopped_run_goes_on_and_can_be_opened_before(root, drawn, tmp_path, monkeypatch):
    from zoomldm.canvas import grow

    path, kept = tmp_path / "s.ome.tiff", grow.blended

    def stop(store, level, block, halo):
        if level.depth == 1 and block.left >= 2:
            raise KeyboardInterrupt
        return kept(store, level, block, halo)

    monkeypatch.setattr(grow, "blended", stop)
    with pytest.raises(KeyboardInterrupt):
        slide.run(asked(root, path))
    assert pixels(path).shape == (64, 96, 3)
    monkeypatch.setattr(grow, "blended", kept)
    slide.run(asked(root, path))
    assert np.array_equal(pixels(path), pixels(drawn))
    assert not (tmp_path / "s.work").exists()


def test_a_slide_that_was_begun_otherwise_is_not_mixed(root, tmp_path, monkeypatch):
    from zoomldm.canvas import slide as job

    path = tmp_path / "s.ome.tiff"
    monkeypatch.setattr(job.SlideJob, "_grow", lambda self, is_first: None)
    monkeypatch.setattr(job.SlideJob, "_finish", lambda self: None)
    slide.run(asked(root, path))
    with pytest.raises(ConfigError, match="begun with another seed"):
        slide.run(asked(root, path, "seed=4"))


def test_two_runs_into_one_file(root, tmp_path):
    from filelock import FileLock

    with FileLock(tmp_path / ".s.work.lock"), pytest.raises(UserError, match="another process is drawing"):
        slide.run(asked(root, tmp_path / "s.ome.tiff"))


def test_a_slide_that_is_done_stays(root, drawn, capsys):
    before = drawn.read_bytes()
    slide.run(asked(root, drawn))
    assert not list(drawn.parent.glob(".*.lock"))
    assert "done already" in capsys.readouterr().out
    assert drawn.read_bytes() == before


def test_a_slide_that_is_done_is_not_taken_for_another(root, drawn, tmp_path):
    before = drawn.read_bytes()
    with pytest.raises(ConfigError, match="another seed"):
        slide.run(asked(root, drawn, "seed=9"))
    assert drawn.read_bytes() == before
    theirs = tmp_path / "theirs.ome.tiff"
    theirs.write_bytes(b"II*\0 someone's")
    with pytest.raises(ConfigError, match="was not drawn by"):
        slide.run(asked(root, theirs))
    assert theirs.read_bytes() == b"II*\0 someone's"


def test_tokens_count_among_the_bytes_that_are_needed(root, tmp_path):
    cfg = asked(root, tmp_path / "s.ome.tiff")
    level = slide.drawn_levels(cfg, None)[-1]
    assert slide._bytes(cfg, [level]) == 24 * (3 * 3.5 * 32 * 32 + 4 * 16 * 128)


def test_glass_is_not_sampled(root, drawn, tmp_path):
    cfg = asked(root, tmp_path / "s.ome.tiff", "glass.brightness=0", "glass.chroma=255", "keep=true")
    slide.run(cfg)
    levels = levels_of(slide._ladder(cfg), root=slide._ladder(cfg)[1], target=slide._ladder(cfg)[0], rows=2, columns=3)
    store = CanvasStore(tmp_path / "s.work", block=2)
    assert store.lacks(levels[1], PIXELS) == []
    fine = torch.from_numpy(store.pixels(levels[1], Block(0, 0, 4, 6)).copy()).permute(2, 0, 1).float()
    coarse = torch.from_numpy(store.pixels(levels[0], Block(0, 0, 2, 3)).copy()).permute(2, 0, 1).float()
    bigger = functional.interpolate(coarse[None], scale_factor=2, mode="bicubic")[0].clamp(0, 255)
    assert (fine - bigger).abs().mean() < 1  # glass all over: the enlarged roots


REGION = ("root=10", "roots=3x3", "block=2", "region=[40,70,50,40]")
"""At 20x the patches (2, 1) to (3, 2) of 6 x 6, at two processes' turns."""


def test_of_a_region_this_part_alone_is_drawn_below_the_overview(root, tmp_path):
    cfg = asked(root, tmp_path / "s.ome.tiff", *REGION, "keep=true")
    slide.run(cfg)
    levels, store = slide.drawn_levels(cfg, None), CanvasStore(tmp_path / "s.work", block=2)
    assert [level.part for level in levels] == [Block(0, 0, 3, 3), Block(2, 1, 4, 3)]
    assert len(list((tmp_path / "s.work" / "20x").glob("*.tokens.safetensors"))) == 1
    coarse, fine = pixels(tmp_path / "s.ome.tiff", 1), pixels(tmp_path / "s.ome.tiff")
    drawn = np.zeros((192, 192), bool)
    drawn[64:128, 32:96] = True
    assert np.array_equal(fine[~drawn], coarse.repeat(2, 0).repeat(2, 1)[~drawn])
    assert np.array_equal(fine[64:128, 32:96], store.pixels(levels[1], levels[1].part))
    assert (fine != coarse.repeat(2, 0).repeat(2, 1))[drawn].mean() > 0.5


def test_a_region_of_everything_is_the_whole_slide(root, drawn, tmp_path):
    slide.run(asked(root, tmp_path / "s.ome.tiff", "region=[0,0,192,128]"))
    assert np.array_equal(pixels(tmp_path / "s.ome.tiff"), pixels(drawn))


@pytest.fixture(scope="module")
def part(root, tmp_path_factory):
    """Draw the right half of the slide alone, 3 x 4 patches in blocks of 2 x 2."""
    cfg = asked(root, tmp_path_factory.mktemp("part") / "s.ome.tiff", "region=[96,0,96,128]", "keep=true")
    slide.run(cfg)
    return cfg


def test_inside_a_region_tokens_and_noise_are_those_of_the_whole(root, drawn, part):
    whole, levels = slide.drawn_levels(asked(root, drawn), None), slide.drawn_levels(part, None)
    area, path = levels[1].part, slide.paths_of(part)[0]
    of_part = CanvasStore(path.with_name("s.work"), block=2).tokens(levels[1], area)
    assert np.allclose(of_part, CanvasStore(drawn.with_name("s.work"), block=2).tokens(whole[1], area), atol=1e-5)
    inner = np.abs(pixels(path) - pixels(drawn))[:, 144:]
    assert inner.mean() < 8  # a patch and more from the region's end


def test_processes_share_the_blocks_of_a_region_and_draw_the_same_pixels(root, part, tmp_path):
    draw_by_two(asked(root, tmp_path / "two.ome.tiff", "region=[96,0,96,128]"))
    assert np.abs(pixels(tmp_path / "two.ome.tiff") - pixels(slide.paths_of(part)[0])).max() <= 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["region=[0,0,0,9]"], "region=.*inside 192 x 128 px"),
        (["region=[180,0,29,9]"], "region=.*inside 192 x 128 px"),
        (["region=all"], "region=all: expected"),
        (["region=[0,0,9,9]", "overview=7"], "overview=7|magnification"),
        (["root=7"], "root=7|magnification"),
        (["root=20", "target=10"], "lies above root=20"),
        (["roots=2"], "expected ROWSxCOLUMNS"),
        (["roots=40000000x1"], "more patches"),
        (["roots=9000x9000"], "GB free"),
        (["out=slide.png"], "expected a name that ends"),
        (["edm=edm"], "does not zoom"),
        (["agreement.start=1.5"], "agreement.start"),
        (["agreement.reach=0"], "agreement.reach"),
        (["halo=2"], "at most half of block=2"),
        (["compression=lzw"], "deflate or jpeg"),
        (["sampling.steps=2000"], "sampling.steps=2000: expected 1000 or fewer"),
        (["coarse.steps=2000"], "coarse.steps=2000: expected 1000 or fewer"),
        (["coarse.guidance_scale=0"], "coarse.guidance_scale=0: expected a number above 0"),
        (["coarse.to=-1"], "coarse.to=-1.0: expected a magnification"),
        (["n=0"], "n=0"),
        (["glass.brightness=-5"], "glass.brightness"),
        (["zoom.guidance_scale=-1"], "zoom.guidance_scale"),
        (["sampling.guidance_scale={default:1,10:2}"], "all levels of a slide are drawn with one"),
        (["sampling.guidance_interval=[1,2]"], "guidance_interval"),
        (["seed=-1"], "seed"),
    ],
)
def test_what_cannot_be_drawn_is_said_first(root, tmp_path, words, said):
    with pytest.raises(UserError, match=said):
        asked(root, tmp_path / "s.ome.tiff", *words)
    assert not list(tmp_path.iterdir())


def test_tokens_of_another_model_are_said_first(root, tmp_path):
    import shutil

    shutil.copytree(root / "runs" / "zoom", root / "runs" / "another")
    try:
        with pytest.raises(UserError, match="another"):
            asked(root, tmp_path / "s.ome.tiff", "run=another")
    finally:
        shutil.rmtree(root / "runs" / "another")


def test_a_folder_of_that_name_is_said_first(root, tmp_path):
    (tmp_path / "s-01.ome.tiff").mkdir()
    with pytest.raises(ConfigError, match=r"s-01.ome.tiff: is a folder"):
        asked(root, tmp_path / "s.ome.tiff", "n=2")


def test_several_slides_have_names_and_seeds_of_their_own(root, tmp_path):
    cfg = asked(root, tmp_path / "s.ome.tiff", "n=2")
    assert [path.name for path in slide.paths_of(cfg)] == ["s-00.ome.tiff", "s-01.ome.tiff"]


def test_a_plan_says_sizes_and_draws_nothing(root, tmp_path, capsys):
    slide.run(asked(root, tmp_path / "s.ome.tiff", "plan=true"))
    assert "192 x 128 px" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_the_model_that_ships_zooms(tmp_path, capsys):
    cfg = compose("slide", tmp_path, f"out={tmp_path / 's.ome.tiff'}", "model=reference", "plan=true")
    slide.check(cfg)
    slide.run(cfg)
    assert "4,096 x 4,096 px" in capsys.readouterr().out
    cfg = compose("slide", tmp_path, f"out={tmp_path / 's.ome.tiff'}", "model=reference", "target=0.15625")
    slide.check(cfg)
    slide.run(cfg)
    assert pixels(tmp_path / "s.ome.tiff").std() > 5
