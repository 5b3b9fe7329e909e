"""The formula that defines weights and inputs of the golden vectors, and the vectors themselves."""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

HERE = Path(__file__).parent


def noise(numel: int, phase: float) -> np.ndarray:
    """Give `numel` numbers of mean 0 and deviation about 1, a function of the phase alone, float64."""
    i = np.arange(1, numel + 1, dtype=np.float64)
    value = np.sin(i * 12.9898 + phase) * 43758.5453
    return (value - np.floor(value) - 0.5) * np.sqrt(12)


def wave(shape: tuple[int, ...], phase: float) -> Tensor:
    """Give the input of a shape and phase."""
    return torch.from_numpy(noise(int(np.prod(shape)), 1000 + phase).reshape(shape).astype(np.float32))


def weight(key: str, shape: tuple[int, ...]) -> Tensor:
    """Give the weight of a key."""
    n = noise(int(np.prod(shape)), zlib.crc32(key.encode()) % 10007).reshape(shape)
    if key.endswith("running_var"):
        value = 1 + 0.25 * np.abs(n)
    elif key.endswith("running_mean"):
        value = 0.1 * n
    elif len(shape) >= 2:
        value = n * np.sqrt(1 / np.prod(shape[1:]))
    elif len(shape) == 1 and key.endswith("weight"):
        value = 1 + 0.1 * n
    else:
        value = 0.05 * n
    return torch.from_numpy(np.asarray(value, dtype=np.float32))


@dataclass(frozen=True)
class Vector:
    """One golden vector: `model`, `inputs` by name, `outputs` by name, and the original's `state_dict`."""

    path: Path
    about: dict = field(repr=False)

    @property
    def family(self) -> str:
        return self.about["model"]["family"]

    @property
    def model(self) -> dict:
        return self.about["model"]

    @cached_property
    def inputs(self) -> dict[str, Tensor]:
        inputs = {name: wave(tuple(x["shape"]), x["phase"]) for name, x in self.about["inputs"].items()}
        for name, x in self.about["inputs"].items():
            np.testing.assert_allclose(inputs[name].flatten()[:4], x["first"], atol=1e-6)
        return inputs

    @cached_property
    def outputs(self) -> dict[str, Tensor]:
        with np.load(self.path) as stored:
            return {name: torch.from_numpy(stored[name]) for name in stored.files}

    @cached_property
    def state_dict(self) -> dict[str, Tensor]:
        """The original's state dict; buffers of whole numbers, which the original computes, are left out."""
        made_by_model = ("attn_mask", "relative_position_index")
        return {
            key: torch.zeros((), dtype=torch.int64)
            if key.endswith("num_batches_tracked")
            else weight(key, tuple(shape))
            for key, shape in self.about["state_dict"].items()
            if not key.endswith(made_by_model)
        }

    def error(self, name: str, value: Tensor, channel_axis: int = -1) -> float:
        """Give the largest absolute difference of a value from the stored output (thinned as that is)."""
        stride = self.about.get("channel_stride", 1)
        index = [slice(None)] * value.ndim
        index[channel_axis] = slice(None, None, stride)
        stored = self.outputs[name]
        thinned = value.detach()[tuple(index)]
        assert thinned.shape == stored.shape, f"{name}: {tuple(thinned.shape)} against {tuple(stored.shape)}"
        return float((thinned - stored).abs().max())


def find_vectors() -> dict[str, Vector]:
    """Find every vector beside this file and in the folder of ``ZOOMLDM_GOLDEN``, by name."""
    folders = [HERE, *filter(None, [os.environ.get("ZOOMLDM_GOLDEN")])]
    found = {}
    for folder in map(Path, folders):
        for path in sorted(folder.glob("*.npz")):
            found[path.stem] = Vector(path, json.loads(path.with_suffix(".json").read_text()))
    return {name: vector for name, vector in found.items() if name.removesuffix("_thin") not in found.keys() - {name}}
