"""Damage to files, drawn from a seeded generator: bytes, JSON, tables, and what may lie under a file's name."""

import csv
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Damage = Callable[[np.random.Generator, bytes], bytes]


# --- bytes


def flip(rng: np.random.Generator, data: bytes) -> bytes:
    """Change a few bytes, or some thousands."""
    out = bytearray(data)
    for position in rng.integers(0, max(1, len(out)), int(10 ** rng.uniform(0, 3.5))).tolist() if out else ():
        out[position] = rng.integers(256)
    return bytes(out)


def flip_ends(rng: np.random.Generator, data: bytes) -> bytes:
    """Change bytes near the beginning and the end, where formats keep what they are."""
    out, size = bytearray(data), len(data)
    near = [*rng.integers(0, min(size, 512), 6), *rng.integers(max(0, size - 4096), size, 12)] if size else []
    for position in rng.choice(near, rng.integers(1, len(near)), replace=False).tolist() if near else ():
        out[position] = rng.integers(256)
    return bytes(out)


def cut(rng: np.random.Generator, data: bytes) -> bytes:
    return data[: int(len(data) * rng.random())]


def cut_a_little(rng: np.random.Generator, data: bytes) -> bytes:
    return data[: max(0, len(data) - int(rng.integers(1, 64)))]


def zero(rng: np.random.Generator, data: bytes) -> bytes:
    start, length = int(len(data) * rng.random()), int(10 ** rng.uniform(0.5, 4.5))
    return data[:start] + bytes(min(length, len(data) - start)) + data[start + length :]


def double(rng: np.random.Generator, data: bytes) -> bytes:
    """Write a block twice, as a copy that was taken up in the wrong place does."""
    start, length = int(len(data) * rng.random()), int(10 ** rng.uniform(0.5, 4))
    return data[: start + length] + data[start:]


def insert(rng: np.random.Generator, data: bytes) -> bytes:
    position = int(len(data) * rng.random())
    return data[:position] + rng.bytes(int(10 ** rng.uniform(0, 3))) + data[position:]


def swap(rng: np.random.Generator, data: bytes) -> bytes:
    """Let two blocks change places."""
    length = int(min(len(data) // 3, 10 ** rng.uniform(0.3, 3.5)))
    one, other = sorted(rng.integers(0, max(1, len(data) - length), 2).tolist())
    if length == 0 or one + length > other:
        return flip(rng, data)
    middle = data[one + length : other]
    return data[:one] + data[other : other + length] + middle + data[one : one + length] + data[other + length :]


def empty(rng: np.random.Generator, data: bytes) -> bytes:
    return b""


BYTES: tuple[Damage, ...] = (flip, flip_ends, cut, cut_a_little, zero, double, insert, swap, empty)


def with_head_of(other: bytes) -> Damage:
    """Return what writes the beginning of another file over a file's own."""

    def swap_headers(rng: np.random.Generator, data: bytes) -> bytes:
        length = int(10 ** rng.uniform(0.5, 3))
        return other[:length] + data[length:]

    return swap_headers


def as_other(other: bytes) -> Damage:
    """Return what puts another file's content under the name."""

    def other_file(rng: np.random.Generator, data: bytes) -> bytes:
        return other

    return other_file


# --- JSON

ODD: tuple[Any, ...] = (None, True, False, "", "x", -1, 0, 0.5, 1e308, 10**30, -(10**19), float("nan"), float("inf"))
ODD += ([], {}, [[]], [None], {"a": None}, "../../etc", "\u0000", "ä" * 300, ["a", "b"], [0, 1], 2**63)


def odd_json(rng: np.random.Generator, data: bytes) -> bytes:
    """Give one to three places of a JSON file another value or type, or take them away."""
    try:
        content = json.loads(data)
    except ValueError:
        return flip(rng, data)
    for _ in range(rng.integers(1, 4)):
        content = _changed(rng, content)
    return json.dumps(content, indent=1).encode()


def _changed(rng: np.random.Generator, content: Any) -> Any:
    """Return the content with one place changed, each level as likely as the next."""
    if not isinstance(content, (dict, list)) or not content or rng.random() < 0.12:
        return ODD[rng.integers(len(ODD))]
    keys = list(content) if isinstance(content, dict) else range(len(content))
    key = keys[int(rng.integers(len(keys)))]
    what = rng.random()
    if what < 0.12:
        del content[key]
    elif what < 0.2 and isinstance(content, dict):
        content["unknown"] = ODD[rng.integers(len(ODD))]
    elif what < 0.28 and isinstance(content, list):
        content.append(content[key])
    else:
        content[key] = _changed(rng, content[key])
    return content


def deep_json(rng: np.random.Generator, data: bytes) -> bytes:
    return b"[" * 5000 + b"]" * 5000


JSON: tuple[Damage, ...] = (odd_json,) * 8 + (deep_json,)


# --- tables

CELLS = ("", "nan", "inf", "1e999", "-1", "0", "0.0001", "1e9", "train", "test", "yes", "no", "ä\u0000", "..", "/")
CELLS += ("a" * 300, "default", "none", '"', "=1+1", "~", "a.tif", "b.tif", "/dev/null", "slides", "*.tif")
CELLS += ("../slides/a.tif",)


def odd_cells(rng: np.random.Generator, data: bytes) -> bytes:
    """Change, double or delete cells, lines and columns of a CSV."""
    rows = list(csv.reader(io.StringIO(data.decode())))
    for _ in range(rng.integers(1, 5)):
        row = int(rng.integers(len(rows)))
        what = rng.random()
        if what < 0.1 and len(rows) > 1:
            del rows[row]
        elif what < 0.2:
            rows.insert(row, list(rows[row]))
        elif what < 0.3 and rows[row]:
            del rows[row][int(rng.integers(len(rows[row])))]
        elif what < 0.4:
            rows[row].append(CELLS[rng.integers(len(CELLS))])
        elif rows[row]:
            rows[row][int(rng.integers(len(rows[row])))] = CELLS[rng.integers(len(CELLS))]
    stream = io.StringIO()
    csv.writer(stream).writerows(rows)
    return stream.getvalue().encode()


CSV: tuple[Damage, ...] = (odd_cells,) * 8


# --- what lies under the name


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "inside").write_text("x")


def as_broken_link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("nowhere"))


def as_link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def away(path: Path) -> None:
    path.unlink()


def denied(path: Path) -> None:
    """Take away all rights; ``without_rights`` makes them count for the superuser as well."""
    path.chmod(0)


PLACES: tuple[Callable[[Path], None], ...] = (as_folder, as_broken_link, as_link_to_itself, away, denied)


def can_deny(folder: Path) -> bool:
    """Say whether nobody in particular could reach a folder, which ``without_rights`` needs of the superuser."""
    return os.geteuid() != 0 or all(parent.stat().st_mode & 0o001 for parent in (folder, *folder.resolve().parents))


def open_to_all(folder: Path) -> None:
    """Let everybody write below a folder."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o777 if path.is_dir() else 0o666))


def restored(start: Path, folder: Path) -> None:
    """Make a folder what another is, times and links included."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(start, folder, symlinks=True)
