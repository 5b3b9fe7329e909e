"""Weight files are read without running code, and a bad file is named with what is wrong."""

from __future__ import annotations

import argparse
import os
import pickle
import subprocess
import sys
import types
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file

from zoomldm.errors import WeightsError
from zoomldm.weights.read import read_header, read_tensors, weight_file


class Malicious:
    """What an attacker would put beside the weights."""

    def __init__(self, witness: Path, function=os.system) -> None:
        self.witness, self.function = witness, function

    def __reduce__(self):
        return self.function, (f"touch {self.witness}",)


def absent_class(name: str) -> type:
    """A class of a package that is not installed when the file is read."""
    module, _, attribute = name.rpartition(".")
    for i in range(module.count(".") + 1):
        part = module if i == 0 else module.rsplit(".", i)[0]
        sys.modules.setdefault(part, types.ModuleType(part))
    made = type(attribute, (), {"__module__": module, "__qualname__": attribute})
    setattr(sys.modules[module], attribute, made)
    return made


@pytest.fixture
def lightning_classes():
    before = set(sys.modules)
    yield absent_class
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize("function", [os.system, eval, exec, subprocess.call])
@pytest.mark.parametrize("zipped", [True, False])
def test_malicious_pickle_does_not_run(tmp_path: Path, function, zipped: bool) -> None:
    witness, path = tmp_path / "it-ran", tmp_path / "model.ckpt"
    content = {"state_dict": {"a": torch.zeros(2)}, "hyper_parameters": Malicious(witness, function)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"model\.ckpt.*could run code"):
        read_tensors(path)
    assert not witness.exists()


def test_the_pickle_of_that_test_would_run_elsewhere(tmp_path: Path) -> None:
    witness = tmp_path / "it-ran"
    pickle.loads(pickle.dumps(Malicious(witness)))
    assert witness.exists()


def test_allowed_names_are_stand_ins_and_run_nothing(tmp_path: Path) -> None:
    """A name on the allow-list, called with anything at all, makes an object that does nothing."""
    from zoomldm.weights.inert import Inert, InertDict, allow_list

    for stand_in, _ in allow_list():
        assert issubclass(stand_in, Inert | InertDict)
        made = stand_in("touch", tmp_path / "x", key=1)
        assert type(made) in (stand_in, type(InertDict()))
        assert not vars(made)


def test_training_checkpoints_of_old_are_read(tmp_path: Path, lightning_classes) -> None:
    """A Lightning 1.5 file: hyper-parameters, callbacks by class and by name, numpy scalars, optimiser state."""
    callback = lightning_classes("pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint")
    setup = lightning_classes("main.SetupCallback")
    layers = torch.nn.Linear(3, 2)
    optimiser = torch.optim.AdamW(layers.parameters())
    layers(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    counts = defaultdict(list)
    counts["a"].append(1)
    path = tmp_path / "last.ckpt"
    torch.save(
        {
            "epoch": 3,
            "pytorch-lightning_version": "1.5.9",
            "state_dict": layers.state_dict(),
            "callbacks": {callback: {"best_model_score": np.float64(0.5), "counts": counts}, "Setup": setup()},
            "hyper_parameters": OmegaConf.create({"unet": {"channels": [1, 2]}, "lr": 1e-4, "name": None}),
            "optimizer_states": [optimiser.state_dict()],
            "args": argparse.Namespace(lr=0.1, path=Path("/tmp/x"), seed=np.int64(3), weights=np.ones(3)),
        },
        path,
    )
    del sys.modules["pytorch_lightning.callbacks.model_checkpoint"]
    tensors = read_tensors(path)
    assert set(tensors) == {"weight", "bias"}
    assert torch.equal(tensors["weight"], layers.weight)


def test_nested_tables_are_joined(tmp_path: Path) -> None:
    path = tmp_path / "dino.pth"
    torch.save(
        {
            "student": {"module.backbone.cls_token": torch.ones(1)},
            "teacher": {"module.backbone.cls_token": torch.zeros(1), "head": "not a tensor"},
            "optimizer": {"state": {0: torch.zeros(1)}},
        },
        path,
    )
    assert set(read_tensors(path)) == {"student.backbone.cls_token", "teacher.backbone.cls_token"}


def test_header_of_safetensors_needs_no_torch(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(2, 3), "b": torch.zeros(4, dtype=torch.float16)}, path)
    code = (
        "import sys; from zoomldm.weights.inspect import report; "
        f"print(report({str(path)!r})); assert 'torch' not in sys.modules"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "2 tensors (F32 1, F16 1)" in out


@pytest.mark.parametrize("name", ["model.safetensors", "model.ckpt"])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.99])
def test_truncated_file_is_named(tmp_path: Path, name: str, kept: float) -> None:
    path, content = tmp_path / name, {"layer.weight": torch.randn(64, 64)}
    if name.endswith(".ckpt"):
        torch.save(content, path)
    else:
        save_file(content, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(WeightsError, match=rf"{name}: .*(truncated|empty|damaged)"):
        read_tensors(path)


def test_a_cut_old_style_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    torch.save({"layer.weight": torch.randn(64, 64)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(WeightsError, match=r"old\.pth: .*damaged"):
        read_tensors(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<!DOCTYPE html><html>log in</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1", "git-lfs pointer"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not a"),
        (b"", "empty"),
    ],
)
@pytest.mark.parametrize("name", ["x.ckpt", "x.safetensors"])
def test_other_files_are_named(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=rf"{name}: .*{reason}"):
        read_header(tmp_path / name)


def test_folders(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such file"):
        weight_file(tmp_path / "absent.ckpt")
    with pytest.raises(WeightsError, match="found 0"):
        weight_file(tmp_path)
    for name in ("pytorch_model.bin", "model.safetensors"):
        (tmp_path / name).touch()
    assert weight_file(tmp_path).name == "model.safetensors"
    (tmp_path / "other.safetensors").touch()
    with pytest.raises(WeightsError, match="found 2"):
        weight_file(tmp_path)


def test_file_without_tensors(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match="no tensors"):
        read_tensors(tmp_path / "x.pt")
