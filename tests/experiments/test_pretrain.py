"""experiments/encoder: what is trained there goes on where it stopped, and encoder=mae_tiny reads it."""

import json

import numpy as np
import pytest
from safetensors import safe_open

from tests.helpers.experiments import experiment_script
from tests.helpers.toy_data import make_toy_data
from zoomldm.composing import compose_jobs
from zoomldm.config import PROJECT_ROOT, Option
from zoomldm.encoder.base import Encoder
from zoomldm.errors import UserError
from zoomldm.files import held


@pytest.fixture
def pretrain(monkeypatch):
    monkeypatch.setenv("PROJECT_ROOT", str(PROJECT_ROOT))
    module = experiment_script("encoder/pretrain.py")
    monkeypatch.setattr(module, "BATCH", 8)
    monkeypatch.setattr(module, "KEPT_EVERY", 2)
    return module


@pytest.fixture
def words(tmp_path):
    make_toy_data(tmp_path / "data", train=(60, 24), test=(20, 4), patch_px=32)
    return [f"data={tmp_path / 'data'}", "steps=4"]


def encoder_of(folder):
    (cfg,) = compose_jobs("prepare", ["encoder=mae_tiny", f"encoder.weights={folder}"])
    return Option("encoder", cfg.encoder).make(Encoder)


def test_what_is_trained_is_an_encoder_and_a_stopped_training_makes_the_same(pretrain, words, tmp_path, monkeypatch):
    pretrain.main([*words, f"weights={tmp_path / 'whole'}"])
    read, stopped = pretrain.batch_at, [f"weights={tmp_path / 'stopped'}", *words]

    def until_three(source, rung, step, seed):
        if step == 3:
            raise KeyboardInterrupt
        return read(source, rung, step, seed)

    monkeypatch.setattr(pretrain, "batch_at", until_three)
    with pytest.raises(KeyboardInterrupt):
        pretrain.main(stopped)
    with pytest.raises(UserError, match=r"is of steps=4 seed=0; name those, or remove it"):
        pretrain.main([*stopped, "seed=1"])
    monkeypatch.setattr(pretrain, "batch_at", read)
    pretrain.main(stopped)
    tiles = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    whole, again = (encoder_of(tmp_path / name)(tiles) for name in ("whole", "stopped"))
    assert whole.shape == (3, 48)
    assert np.ptp(whole, 0).max() > 0.01, "tiles are told apart"
    np.testing.assert_array_equal(whole, again)
    assert {path.name for path in (tmp_path / "stopped").iterdir()} == {"model.safetensors"}
    with safe_open(tmp_path / "whole" / "model.safetensors", "pt") as file:
        about = json.loads(file.metadata()["zoomldm"])
    assert (about["patches"], about["steps"], about["batch"]) == (60, 4, 8)
    with pytest.raises(UserError, match="is there already; remove it, or name another folder"):
        pretrain.main(stopped)


@pytest.mark.parametrize(
    ("word", "said"), [("steps=0", "steps=0: expected 1 or more"), ("seed=-1", "seed=-1: expected 0 or more")]
)
def test_numbers_without_sense_are_refused_before_anything_is_made(pretrain, words, tmp_path, word, said):
    with pytest.raises(UserError, match=said):
        pretrain.main([words[0], f"weights={tmp_path / 'none'}", word])
    assert not (tmp_path / "none").exists()


def test_a_damaged_state_is_named(pretrain, words, tmp_path):
    (tmp_path / "unfinished.pt").write_text("x")
    with pytest.raises(UserError, match=r"unfinished.pt: is no whole state of a training; remove it"):
        pretrain.main([*words, f"weights={tmp_path}"])


def test_two_trainings_at_once_into_one_folder_are_not_one(pretrain, words, tmp_path):
    with (
        held(tmp_path / ".one.lock", "busy"),
        pytest.raises(UserError, match=r"one/model.safetensors: another process trains it"),
    ):
        pretrain.main([*words, f"weights={tmp_path / 'one'}"])
    pretrain.main([*words, f"weights={tmp_path / 'one'}"])
    assert (tmp_path / "one" / "model.safetensors").is_file()


def test_the_loss_falls_where_pixels_can_be_foretold(pretrain, words, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(pretrain, "WARM_UP", 1)
    monkeypatch.setattr(pretrain, "SHOWN_EVERY", 5)
    pretrain.main([words[0], f"weights={tmp_path / 'more'}", "steps=40"])
    losses = [
        float(line.split("loss ")[1].split()[0]) for line in capsys.readouterr().out.splitlines() if "loss " in line
    ]
    assert losses[-1] < losses[0]
