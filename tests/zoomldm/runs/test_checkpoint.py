"""Checkpoints are whole or absent, verified, and kept by policy."""

import errno
import json
import os

import pytest
import torch
from safetensors import SafetensorError

from zoomldm.errors import UserError, WeightsError
from zoomldm.runs.checkpoint import CheckpointInfo, Checkpoints, load_model


def save(checkpoints, step, loss=None):
    info = CheckpointInfo(kind="zoomldm", step=step, extra_state={"latent_scale": 2.0}, validation_loss=loss)
    checkpoints.save(info, {"step": step, "model": {"w": torch.full((3,), step)}}, {"w": torch.full((3,), step + 0.5)})


def test_what_was_saved_is_loaded(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    save(checkpoints, 10, loss=0.5)
    info = checkpoints.newest_whole()
    assert (info.step, info.extra_state, info.validation_loss) == (10, {"latent_scale": 2.0}, 0.5)
    assert checkpoints.load_state(10)["model"]["w"].tolist() == [10, 10, 10]
    assert load_model(tmp_path)[1]["w"].tolist() == [10.5] * 3


def test_last_every_and_best_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep_last=2, keep_every=40)
    for step in range(10, 110, 10):
        save(checkpoints, step, loss=abs(step - 30) + 1.0)
    assert checkpoints.steps() == [30, 40, 80, 90, 100]
    assert checkpoints.best() == 30


def test_a_damaged_newest_is_passed_over(tmp_path, capsys):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for step in (10, 20):
        save(checkpoints, step)
    for name in ("state.pt", "model.safetensors", "checkpoint.json"):
        path = checkpoints.path(20) / name
        content = path.read_bytes()
        path.write_bytes(content[:-3])
        assert checkpoints.newest_whole().step == 10
        assert name in capsys.readouterr().err
        path.write_bytes(content)
    assert checkpoints.newest_whole().step == 20
    for step in (10, 20):
        (checkpoints.path(step) / "state.pt").unlink()
    with pytest.raises(WeightsError, match="all 2 checkpoints are damaged"):
        checkpoints.newest_whole()
    assert load_model(tmp_path)[0].step == 20  # sampling needs the other file alone


def test_a_killed_save_leaves_nothing_under_a_final_name(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 10)
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        save(checkpoints, 20)
    monkeypatch.undo()
    assert checkpoints.newest_whole().step == 10
    save(checkpoints, 30)
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["step-00000010", "step-00000030"]


@pytest.mark.parametrize(
    ("target", "error"),
    [  # in the words that the two writers have for it
        ("torch.save", OSError(errno.ENOSPC, "No space left on device")),
        ("torch.save", RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534")),
        ("safetensors.torch.save_file", SafetensorError("I/O error: No space left on device (os error 28)")),
    ],
)
def test_a_full_disk_is_said_and_spares_the_last_checkpoint(tmp_path, monkeypatch, target, error):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 10)

    def full(*_):
        raise error

    monkeypatch.setattr(target, full)
    with pytest.raises(UserError, match="disk is full; the checkpoint of step 10 is whole"):
        save(checkpoints, 20)
    assert checkpoints.newest_whole().step == 10
    assert len(list(tmp_path.iterdir())) == 1


def test_another_format_is_refused(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 10)
    path = checkpoints.path(10) / "checkpoint.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 7}))
    with pytest.raises(WeightsError, match="format version 7"):
        checkpoints.info(10)


def test_a_run_without_the_checkpoint_says_which_it_has(tmp_path):
    with pytest.raises(WeightsError, match="no checkpoint yet"):
        load_model(tmp_path)
    save(Checkpoints(tmp_path / "checkpoints"), 10)
    with pytest.raises(WeightsError, match="no checkpoint of step 11; it has 10"):
        load_model(tmp_path, 11)


def test_state_is_read_without_running_code(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 10)
    torch.save({"model": print}, checkpoints.path(10) / "state.pt")
    with pytest.raises(Exception, match=r"weights_only|Unsupported"):
        checkpoints.load_state(10)
