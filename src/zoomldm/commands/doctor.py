"""Examine a machine: Python, torch, GPU driver, disk, weights found or missing."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from zoomldm.config import CONF

if TYPE_CHECKING:
    from omegaconf import DictConfig

TRAINING_FILES = {
    "autoencoder.weights=": "vq-f4.ckpt",
    "unet.init=": "cin256-v2.ckpt",
    "model.loss.perceptual.weights=": "vgg16-397923af.pth",
    "weights= (sample.py)": "zoomldm_brca.ckpt",
    "edm_weights= (sample.py)": "zoomldm_cdm.pt",
}
"""Files that no option names by itself, under the names of docs/weights.md; they are given by these keys."""
PACKAGES = ("torch", "torchvision", "diffusers", "lightning-fabric", "webdataset", "mlflow", "openslide-python", "timm")


def examine(cfg: DictConfig) -> None:
    """Print a line for each thing that a run needs, with what to do where it is missing."""
    _line("python", f"{platform.python_version()} ({sys.executable})")
    for name in PACKAGES:
        try:
            _line(name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            _line(name, "MISSING: run `make setup`")
    _line("openslide", _openslide())
    _line("gpu driver", _driver())
    _line("torch devices", _torch_devices())
    for name in ("data", "runs", "weights", "cache"):
        folder = Path(cfg.paths[name])
        existing = next(p for p in (folder, *folder.resolve().parents) if p.exists())
        free_gb = shutil.disk_usage(existing).free / 1e9
        _line(f"paths.{name}", f"{folder} ({'exists' if folder.exists() else 'not yet'}, {free_gb:.0f} GB free)")
    for title, path in _weight_files(cfg):
        _line(title, f"{'found' if path.exists() else 'missing'}: {path}")
    print("docs/weights.md says what each weight file is for and where it is published; the demo needs none of them.")


def _line(name: str, value: str) -> None:
    print(f"{name:<24} {value}")


def _openslide() -> str:
    try:
        import openslide

        return openslide.__library_version__
    except (ImportError, OSError) as error:
        return f"MISSING ({error}): run `make setup`"


def _driver() -> str:
    if shutil.which("nvidia-smi") is None:
        return "none found (nvidia-smi is not on the PATH); training runs on the CPU"
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, timeout=30)
    return "; ".join(answer.stdout.strip().splitlines()) or f"nvidia-smi failed: {answer.stderr.strip()}"


def _torch_devices() -> str:
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} CUDA device(s), CUDA {torch.version.cuda}"
    return f"CPU, {torch.get_num_threads()} threads (torch was built for CUDA {torch.version.cuda})"


def _weight_files(cfg: DictConfig) -> list[tuple[str, Path]]:
    """Return (what for, path) of every weight file that the configuration's options or docs/weights.md name."""
    from omegaconf import OmegaConf

    found = [(key, Path(cfg.paths.weights) / name) for key, name in TRAINING_FILES.items()]
    for group in ("encoder", "features"):
        for file in sorted((CONF / group).glob("*.yaml")):
            option = OmegaConf.create({"paths": cfg.paths, group: OmegaConf.load(file)})
            weights = OmegaConf.select(option, f"{group}.weights")
            if weights:
                found.append((f"{group}={file.stem}", Path(weights)))
    return found
