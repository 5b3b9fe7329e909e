"""What is wrong with a file of ours is an OSError or a ValueError that names the field, whatever is wrong with it."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any, NotRequired, TypedDict

import numpy as np
import pytest

from zoomldm.errors import ConfigError
from zoomldm.stored import read_json, read_npy, stored_as


class Facts(TypedDict):
    bytes: int
    extra: NotRequired[str]


@dataclass(frozen=True)
class Inner:
    at: tuple[int, float]

    def __post_init__(self):
        if self.at[0] < 0:
            raise ConfigError("below zero")


@dataclass(frozen=True, kw_only=True)
class Record:
    name: str
    part: float
    inner: Inner
    facts: dict[str, Facts]
    maybe: list[str] | None = None
    free: Any = None
    others: dict[str, int] = field(default_factory=dict)


WHOLE = {"name": "a", "part": 1, "inner": {"at": [1, 2.5]}, "facts": {"x": {"bytes": 3}}, "free": [None]}


def test_what_was_written_comes_back():
    record = stored_as(Record, WHOLE)
    assert record == Record(name="a", part=1, inner=Inner((1, 2.5)), facts={"x": {"bytes": 3}}, free=[None])
    assert stored_as(Record, json.loads(json.dumps(asdict(record)))) == record
    assert isinstance(record.part, int)  # a number keeps its form, so that it is written again with the same bytes


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": 3}, "Record.name"),
        ({"name": None}, "Record.name"),
        ({"part": True}, "Record.part"),
        ({"part": float("nan")}, "Record.part"),
        ({"part": float("inf")}, "Record.part"),
        ({"inner": []}, "Record.inner"),
        ({"inner": {"at": [1]}}, "Record.inner.at"),
        ({"inner": {"at": [1.5, 2]}}, r"Record.inner.at\[0\]"),
        ({"inner": {"at": [-1, 2]}}, "Record.inner: below zero"),
        ({"facts": {"x": {}}}, "Record.facts.x: .*bytes"),
        ({"facts": {"x": {"bytes": 1, "colour": 2}}}, "Record.facts.x: .*colour"),
        ({"facts": [1]}, "Record.facts"),
        ({"maybe": ["a", 1]}, "Record.maybe"),
        ({"others": {"a": "1"}}, "Record.others.a"),
        ({"colour": 1}, "colour"),
    ],
)
def test_a_field_of_another_type_is_named(change, said):
    with pytest.raises(ValueError, match=said):
        stored_as(Record, WHOLE | change)


@pytest.mark.parametrize("content", [None, 3, [], "x", {}])
def test_what_is_no_record_is_refused(content):
    with pytest.raises(ValueError, match="Record"):
        stored_as(Record, content)


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b"\xff\xfe{", b"1" * 5000, b"{"])
def test_what_is_no_json(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError):  # noqa: PT011
        read_json(tmp_path / "a.json")


def test_what_is_no_array(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.arange(6).reshape(2, 3))
    whole = path.read_bytes()
    assert read_npy(path).tolist() == read_npy(path, mapped=True).tolist() == [[0, 1, 2], [3, 4, 5]]
    header = whole.index(b"{")
    damaged = [b"", whole[:40], whole[:-5], whole[:header] + bytes(30) + whole[header + 30 :], b"{}" + whole[2:]]
    damaged += [whole.replace(b"(2, 3)", b"(2, -3"), whole.replace(b"(2, 3)", b"9*999)")]
    for content in damaged:
        path.write_bytes(content)
        for mapped in (False, True):
            with pytest.raises(ValueError):  # noqa: PT011
                read_npy(path, mapped=mapped)
    np.savez(tmp_path / "b.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match="archive"):
        read_npy(tmp_path / "b.npz")
