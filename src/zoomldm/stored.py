"""Files that this code has written, read back: whatever is wrong with one is an ``OSError`` or a ``ValueError``."""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

import numpy as np

from zoomldm.errors import UserError

T = TypeVar("T")


def read_json(path: str | os.PathLike) -> Any:
    """Return what a JSON file holds.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON.
    """
    try:
        return json.loads(Path(path).read_bytes())
    except RecursionError as error:
        raise ValueError("no JSON of ours: nested too deeply") from error


def read_npy(path: str | os.PathLike, *, mapped: bool = False) -> np.ndarray:
    """Return the array of an .npy file; ``mapped`` into memory, it is read where it is used.

    Raises:
        OSError: it cannot be read.
        ValueError: it is none.
    """
    try:
        array = np.load(path, mmap_mode="r" if mapped else None)
    except (OSError, ValueError):
        raise
    except Exception as error:  # a damaged header is read by Python's parser, which has many words for it
        raise ValueError(f"no .npy file ({type(error).__name__}: {error})") from error
    if not isinstance(array, np.ndarray):
        raise ValueError("no .npy file, but an archive")
    return array


def stored_as(kind: type[T], content: Any) -> T:
    """Return the dataclass that a JSON object was made of, with the dataclasses in it.

    Numbers stay what they are in the file, so that it is written again with the same bytes.

    Raises:
        ValueError: names the field that is missing, unknown or of another type.
    """
    return _made(kind, content, kind.__name__)


def _made(hint: Any, value: Any, where: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, UnionType):
        return _one_of(args, value, where)
    if is_dataclass(hint) or is_typeddict(hint):
        return _object(hint, value, where)
    if origin in (dict, Mapping) and isinstance(value, dict):
        return {key: _made(args[1], item, f"{where}.{key}") for key, item in value.items()}
    if origin is list and isinstance(value, list):
        return [_made(args[0], item, f"{where}[{number}]") for number, item in enumerate(value)]
    if origin is tuple and isinstance(value, list) and len(value) == len(args):
        return tuple(_made(one, item, f"{where}[{number}]") for number, (one, item) in enumerate(zip(args, value)))
    if hint is Path and isinstance(value, str):
        return Path(value)
    if _is_plain(hint, value):
        return value
    raise ValueError(f"{where} is {str(value)[:60]!r}, expected {getattr(hint, '__name__', hint)}")


def _is_plain(hint: Any, value: Any) -> bool:
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if hint in (str, int, bool, NoneType):
        return isinstance(value, hint) and not (hint is int and isinstance(value, bool))
    return hint in (dict, list) and isinstance(value, hint)


def _one_of(hints: tuple[Any, ...], value: Any, where: str) -> Any:
    for hint in hints:
        try:
            return _made(hint, value, where)
        except ValueError as error:
            fault = error
            if is_dataclass(hint) and isinstance(value, dict):
                raise
    raise fault


def _object(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{where} is {str(value)[:60]!r}, expected an object")
    hints, required = _fields_of(kind)
    if wrong := sorted({*(required - value.keys()), *(value.keys() - hints.keys())}):
        raise ValueError(f"{where}: fields missing or unknown: {', '.join(wrong)}")
    try:
        return kind(**{name: _made(hints[name], item, f"{where}.{name}") for name, item in value.items()})
    except UserError as error:
        raise ValueError(f"{where}: {error}") from error


@cache
def _fields_of(kind: Any) -> tuple[dict[str, Any], frozenset[str]]:
    """Return the types of an object's fields by name, and the names of those without a default."""
    hints = get_type_hints(kind)
    if is_typeddict(kind):
        return hints, kind.__required_keys__
    needed = (one.name for one in fields(kind) if one.default is MISSING and one.default_factory is MISSING)
    return hints, frozenset(needed)
