from dataclasses import replace

import numpy as np
import pytest

from data_prep.columns import grid as add_grid
from data_prep.columns.grid import replace_grids
from data_prep.execution.serial import SerialExecutor
from data_prep.report.verification import verify
from tests.helpers.prepare import MeanColour, hashes, prepare_folder, samples_of, tiny_preparation
from zoomldm.config import Option
from zoomldm.data.manifest import Manifest
from zoomldm.data.schema import decode_grid, decode_image
from zoomldm.errors import ConfigError, DataError

MEAN = Option("encoder", {"_target_": "tests.helpers.prepare.MeanColour", "name": "mean"}, allow=("tests",))


@pytest.fixture
def slides(tiny_slide):
    for number, name in enumerate(("a", "b")):
        path = tiny_slide(name, seed=number, width=400, height=360)
    return path.parent


def add(slides, root, **values):
    return replace_grids(tiny_preparation(slides, root, encoder=MEAN, **values), SerialExecutor(), repack=True)


def test_grids_are_replaced_and_images_stay(slides, tmp_path):
    root = tmp_path / "data"
    before = prepare_folder(slides, root)
    images = {path: h for path, h in hashes(root).items() if ".grid." not in path}
    manifest = add(slides, root)
    assert verify(manifest) == []
    assert {path: h for path, h in hashes(root).items() if ".grid." not in path} == images
    assert (manifest.encoder.name, manifest.encoder.dim, manifest.encoder.statistics) == ("mean", 3, None)
    assert Manifest.load(root).counts == before.counts
    for shard, _, columns in samples_of(manifest):
        if shard.magnification == 20:
            colour = decode_image(columns["image"]["png"]).mean((0, 1))
            assert np.allclose(decode_grid(columns["grid"])[0, 0], colour, atol=0.1)


def test_it_equals_a_preparation_with_that_encoder(slides, tmp_path):
    prepare_folder(slides, tmp_path / "one")
    add(slides, tmp_path / "one")
    prepare_folder(slides, tmp_path / "two", encoder=MEAN)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")


def test_afterwards_the_folder_belongs_to_the_new_encoder(slides, tmp_path, capsys):
    root = tmp_path / "data"
    prepare_folder(slides, root)
    add(slides, root)
    prepare_folder(slides, root, encoder=MEAN)
    assert "nothing to do" in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"encoder\.name: mean there, stats now"):
        prepare_folder(slides, root)


def test_slides_may_be_added_before_and_after(slides, tiny_slide, tmp_path):
    root = tmp_path / "data"
    prepare_folder(slides, root)
    tiny_slide("c", seed=2, width=400, height=360)
    prepare_folder(slides, root)
    add(slides, root)
    before = hashes(root)
    tiny_slide("d", seed=3, width=400, height=360)
    manifest = prepare_folder(slides, root, encoder=MEAN)
    assert verify(manifest) == []
    assert {path: h for path, h in hashes(root).items() if path in before} == before
    assert manifest.encoder.name == "mean"


def test_a_killed_run_leaves_no_mixture_and_goes_on(slides, tmp_path, monkeypatch, capsys):
    root = tmp_path / "data"
    prepare_folder(slides, root)
    original, calls = add_grid.write_grids, []

    def breaks(job):
        calls.append(job.shard.path)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(job)

    monkeypatch.setattr(add_grid, "write_grids", breaks)
    with pytest.raises(KeyboardInterrupt):
        add(slides, root)
    assert verify(Manifest.load(root)) == []  # the old grids, until the new ones are whole
    assert Manifest.load(root).encoder.name == "stats"
    prepare_folder(slides, root)  # whoever changes his mind has lost nothing
    assert "nothing to do" in capsys.readouterr().out
    assert {tiny_preparation(slides, root).store(name).done().encoder["name"] for name in "ab"} == {"stats"}
    monkeypatch.setattr(add_grid, "write_grids", original)
    monkeypatch.setattr(add_grid, "encode_slide", lambda job: pytest.fail("encoded twice"))
    assert verify(add(slides, root)) == []


def test_other_settings_and_lost_slides_are_refused(slides, tmp_path):
    root = tmp_path / "data"
    with pytest.raises(DataError):
        add(slides, root)
    root = tmp_path / "other"
    prepare_folder(slides, root)
    with pytest.raises(ConfigError, match="patch_px"):
        add(slides, root, patch_px=32)
    (slides / "b.tif").write_bytes(b"other")
    with pytest.raises(DataError, match="gone or have changed: b"):
        add(slides, root)


def test_finished_grids_are_replaced_only_where_that_is_agreed(slides, tmp_path):
    root = tmp_path / "data"
    manifest = prepare_folder(slides, root)
    before = hashes(root)
    with pytest.raises(ConfigError, match=r"finished tars.*grids by mean instead of stats.*repack=true"):
        replace_grids(tiny_preparation(slides, root, encoder=MEAN), SerialExecutor())
    assert hashes(root) == before
    assert verify(manifest) == []


def test_the_same_command_again_has_nothing_to_do_unless_grids_are_lost(slides, tmp_path, capsys):
    root = tmp_path / "data"
    prepare_folder(slides, root)
    made = add(slides, root)
    before, again = hashes(root), tiny_preparation(slides, root, encoder=MEAN)
    assert replace_grids(again, SerialExecutor()) == made
    assert "nothing to do, its grids are by mean" in capsys.readouterr().out
    assert hashes(root) == before
    next(root.rglob("shards/**/*.grid.tar")).unlink()
    with pytest.raises(ConfigError, match="repack=true"):
        replace_grids(again, SerialExecutor())
    add(slides, root)
    assert hashes(root) == before


def test_rows_that_another_encoder_left_behind_are_not_taken(slides, tmp_path, monkeypatch):
    """One killed before the rows were exchanged, then another encoder: the grids are the second's."""
    root = tmp_path / "data"
    prepare_folder(slides, root)
    stats = tiny_preparation(slides, root)
    for name in ("a", "b"):
        store = stats.store(name)
        store.save_new_rows(np.zeros((len(store.rows()), 5), np.float32), Other())
    manifest = add(slides, root)
    assert (manifest.encoder.name, manifest.encoder.dim) == ("mean", 3)
    prepare_folder(slides, tmp_path / "two", encoder=MEAN)
    assert hashes(root) == hashes(tmp_path / "two")


def test_a_slide_that_was_read_from_another_level_is_refused(slides, tmp_path):
    """As older versions chose levels: its tiles would be others than those of its shards."""
    root = tmp_path / "data"
    prepare_folder(slides, root)
    before, store = hashes(root), tiny_preparation(slides, root).store("a")
    state = store.done()
    store.write_state(replace(state, scale=replace(state.scale, level=1)))
    with pytest.raises(DataError, match=r"from level 1, and level 0 would be read now; delete .*/a and run"):
        add(slides, root)
    assert hashes(root) == before


class Other(MeanColour):
    name, dim, weights_sha256 = "other", 5, "beef"
