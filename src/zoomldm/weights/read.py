"""Read weight files without running code from them: tensors, their names and shapes, and nothing else."""

from __future__ import annotations

import json
import pickle
import struct
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoomldm.errors import WeightsError
from zoomldm.weights.layout import Shape

if TYPE_CHECKING:
    from torch import Tensor

SKIPPED_GROUPS = frozenset(
    {"optimizer", "optimizer_states", "opt", "lr_schedulers", "callbacks", "loops", "fp16_scaler", "dino_loss"}
)
"""Top-level entries of a training checkpoint that hold the state of training, not weights."""

MAX_SAFETENSORS_HEADER = 100_000_000

_SIGNS_OF_DAMAGE = (RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AssertionError, AttributeError)
"""What torch's reader raises for files that are no weights, or are cut short."""


@dataclass(frozen=True)
class Header:
    """What a file holds, without the values: `shapes` by key, `dtypes` by key, and the kind of file."""

    path: Path
    kind: str
    shapes: dict[str, Shape]
    dtypes: dict[str, str]


def read_header(path: str | Path) -> Header:
    """List the tensors of a weight file or of a diffusers folder; safetensors files are answered without torch.

    Raises:
        WeightsError: no such file, not a weight file, truncated, or a pickle with something that is not allowed.
    """
    path = weight_file(path)
    if path.suffix == ".safetensors":
        entries = {k: v for k, v in _safetensors_header(path).items() if k != "__metadata__"}
        return Header(
            path=path,
            kind="safetensors",
            shapes={key: tuple(entry["shape"]) for key, entry in entries.items()},
            dtypes={key: entry["dtype"] for key, entry in entries.items()},
        )
    tensors = read_tensors(path)
    return Header(
        path=path,
        kind="torch pickle, read with weights_only",
        shapes={key: tuple(tensor.shape) for key, tensor in tensors.items()},
        dtypes={key: str(tensor.dtype).removeprefix("torch.") for key, tensor in tensors.items()},
    )


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a weight file on the CPU; nested tables are joined with dots, ``state_dict`` and DDP's
    ``module`` left out of the names.

    Raises:
        WeightsError: as for `read_header`.
    """
    path = weight_file(path)
    tensors = _read_safetensors(path) if path.suffix == ".safetensors" else dict(_flatten(_read_pickle(path)))
    if not tensors:
        raise WeightsError(f"{path}: holds no tensors; expected a state dict or a training checkpoint with one")
    return tensors


def weight_file(path: str | Path) -> Path:
    """Find the one weight file that a path means: the file itself, or that of a diffusers or hub folder.

    Raises:
        WeightsError: nothing there, or a folder with no or several weight files.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return path
    if not path.exists():
        raise WeightsError(f"{path}: no such file; docs/weights.md lists the weight files and where each is published")
    found = [f for pattern in ("*.safetensors", "*.bin", "*.ckpt", "*.pth", "*.pt") for f in sorted(path.glob(pattern))]
    whole = [f for f in found if f.suffix == ".safetensors"] or found
    if len(whole) != 1:
        names = ", ".join(f.name for f in whole[:5]) or "none"
        raise WeightsError(f"{path}: expected one weight file here, found {len(whole)} ({names}); name the file")
    return whole[0]


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    _safetensors_header(path)  # says more about what is wrong than the library does
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: damaged safetensors file ({error}); copy it again and compare its size") from error


def _safetensors_header(path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(8)
        _refuse_impostor(path, head + stream.read(56))
        stream.seek(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else -1
        if not 2 <= length <= min(MAX_SAFETENSORS_HEADER, size - 8):
            raise WeightsError(f"{path}: not a safetensors file, or truncated ({size} bytes); copy it again")
        try:
            header = json.loads(stream.read(length))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise WeightsError(f"{path}: not a safetensors file ({size} bytes, its header is not JSON)") from error
    entries = {key: value for key, value in header.items() if key != "__metadata__"}
    end = 8 + length + max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    if end != size:
        keys = ", ".join(list(entries)[:3])
        raise WeightsError(f"{path}: truncated: {size} bytes, expected {end} (first keys {keys}); copy it again")
    return header


def _read_pickle(path: Path) -> Any:
    import torch

    from zoomldm.weights.inert import allow_list

    with path.open("rb") as stream:
        head = stream.read(64)
    _refuse_impostor(path, head)
    is_zip = zipfile.is_zipfile(path)
    if head.startswith(b"PK") and not is_zip:
        size = path.stat().st_size
        raise WeightsError(f"{path}: truncated ({size} bytes, the end of the archive is missing); copy it again")
    try:
        with torch.serialization.safe_globals(allow_list()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True if is_zip else None)
    except pickle.UnpicklingError as error:
        name = _forbidden_name(str(error))
        if name:
            raise WeightsError(
                f"{path}: not read: its pickle asks for {name}, which could run code. If you trust the file, read it "
                "where it was made and save its state dict as .safetensors"
            ) from error
        reason = str(error).rpartition("WeightsUnpickler error:")[2].strip().splitlines()
        raise WeightsError(f"{path}: not a PyTorch weight file, or damaged ({reason[0] if reason else ''})") from error
    except _SIGNS_OF_DAMAGE as error:
        raise WeightsError(f"{path}: not a PyTorch weight file, or damaged ({_first_line(error)})") from error


def _forbidden_name(message: str) -> str | None:
    """Return the name that torch refused to look up or to call, None where that was not the reason."""
    for mark in ("GLOBAL ", "unrecognized function "):
        if mark in message:
            return message.split(mark, 1)[1].split()[0].strip("`'\".,")
    return None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def _refuse_impostor(path: Path, head: bytes) -> None:
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise WeightsError(f"{path}: is a web page, not weights; the download may need a login or an accepted licence")
    if start.startswith(b"version https://git-lfs"):
        raise WeightsError(f"{path}: is a git-lfs pointer, not weights; fetch the file that it points to")
    if not head:
        raise WeightsError(f"{path}: is empty; copy it again")


def _flatten(content: Any, prefix: str = "") -> Any:
    """Yield (name, tensor) pairs from nested tables, leaving out the state of training."""
    import torch

    if isinstance(content, torch.Tensor):
        yield prefix.removesuffix(".") or "tensor", content.detach()
        return
    if not isinstance(content, Mapping):
        return
    for key, value in content.items():
        if not isinstance(key, str) or (not prefix and key in SKIPPED_GROUPS):
            continue
        name = key.replace("module.", "")
        is_table = isinstance(value, Mapping)
        inner = prefix if is_table and key in ("state_dict", "module") else f"{prefix}{name}."
        if is_table or isinstance(value, torch.Tensor):
            yield from _flatten(value, inner)
