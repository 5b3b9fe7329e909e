"""The manifest of a data set: what its shards hold, what made them, and the checks that go with it."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from zoomldm.data.schema import IMAGE_EXTENSIONS, SPLITS
from zoomldm.errors import DataError
from zoomldm.files import write_atomically
from zoomldm.ladder import Ladder, label
from zoomldm.stored import read_json, stored_as

FORMAT_VERSION = 1
KIND = "zoomldm-data"
MANIFEST_NAME = "manifest.json"
EXCLUDE_NAME = "exclude.txt"


class TarFacts(TypedDict):
    """What is known of a tar; ``num_samples`` where it holds fewer than its shard."""

    bytes: int
    sha256: str
    num_samples: NotRequired[int]


@dataclass(frozen=True, kw_only=True)
class ShardInfo:
    """One shard: ``path`` within the data set's folder, and what is known of each column's tar."""

    split: str
    magnification: float
    path: str
    num_samples: int
    columns: dict[str, TarFacts]


@dataclass(frozen=True, kw_only=True)
class EncoderInfo:
    """The encoder that made the grids.

    Attributes:
        statistics: what its rows were standardised with (``stats`` only).
        fit: how a network brings tiles to its own size (``resize``, ``crop``); None for what takes them as they are.
    """

    name: str
    dim: int
    weights_sha256: str | None
    input_px: int
    mpp: float
    statistics: dict[str, Any] | None = None
    fit: str | None = None


@dataclass(kw_only=True)
class Manifest:
    """A data set in one file; see ``docs/data.md`` for every field."""

    name: str
    ladder: Ladder
    encoder: EncoderInfo
    columns: dict[str, dict[str, Any]]
    shards: list[ShardInfo]
    counts: dict[str, dict[str, int]]
    patients: dict[str, list[str]]
    held_out: str = "patients"
    dropped: dict[str, str] = field(default_factory=dict)
    slides: list[dict[str, Any]] = field(default_factory=list)
    glass: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    code_version: str = ""
    git_revision: str | None = None
    format_version: int = FORMAT_VERSION
    kind: str = KIND
    root: Path | None = field(default=None, repr=False, compare=False)

    @classmethod
    def load(cls, root: str | os.PathLike) -> "Manifest":
        """Read a data set's manifest.

        Raises:
            DataError: there is none, it cannot be read, or another version of this code made it.
        """
        path = Path(root) / MANIFEST_NAME
        advice = (
            f"data.root says where the data set lies; `python data_prep/prepare.py data={Path(root).name}` makes it"
        )
        if not path.is_file():
            raise DataError(f"{root}: no data set there (no {MANIFEST_NAME}); {advice}")
        try:
            content = read_json(path)
            kind, version = content.get("kind"), content.get("format_version")
        except (ValueError, AttributeError, OSError) as error:
            raise DataError(f"{path}: cannot be read ({error}); {advice}") from error
        if kind != KIND or version != FORMAT_VERSION:
            raise DataError(
                f"{path}: kind {kind!r}, format version {version}; this code reads {KIND!r}, version {FORMAT_VERSION}; "
                "prepare the data again with it"
            )
        try:
            manifest = stored_as(cls, content | {"root": str(root)})
            manifest._check()
        except ValueError as error:
            raise DataError(
                f"{path}: damaged ({error}); delete it and run the same prepare.py again, which makes it anew from the "
                "shards that are there"
            ) from error
        return manifest

    def _check(self) -> None:
        """Refuse what no command writes, though every field has its type.

        Raises:
            ValueError: names it.
        """
        if "image" in self.columns and self.columns["image"].get("format") not in IMAGE_EXTENSIONS:
            raise ValueError(f"columns.image.format is none of {', '.join(IMAGE_EXTENSIONS)}")
        for shard in self.shards:
            if shard.split not in SPLITS or label(shard.magnification) not in self.ladder.labels:
                raise ValueError(f"shard {shard.path} is of no split or magnification of the data set")

    def to_dict(self) -> dict[str, Any]:
        head = {"format_version": self.format_version, "kind": self.kind}
        content = {k: v for k, v in asdict(self).items() if k not in ("root", *head)}
        if content["encoder"]["fit"] is None:
            del content["encoder"]["fit"]  # manifests of encoders without one keep their bytes
        return head | content

    def to_bytes(self) -> bytes:
        return (json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n").encode()

    def save(self, root: str | os.PathLike) -> None:
        """Write ``manifest.json`` into a folder, atomically."""
        write_atomically(Path(root) / MANIFEST_NAME, self.to_bytes())
        self.root = Path(root)

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of what ``save`` writes."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def identity(self, columns: Iterable[str]) -> str:
        """Return a hash of the data set as far as a model that reads these columns can tell: what shards hold, not when
        or by which revision they were made, nor further columns."""
        wanted = {"meta", *columns}
        content = self.to_dict()
        for name in ("code_version", "git_revision", "slides", "config"):
            content.pop(name)
        content["columns"] = {name: facts for name, facts in content["columns"].items() if name in wanted}
        for shard in content["shards"]:
            shard["columns"] = {name: facts for name, facts in shard["columns"].items() if name in wanted}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def image_format(self) -> str:
        return self.columns["image"]["format"]

    @property
    def magnifications(self) -> tuple[float, ...]:
        """Return the ladder's magnifications that hold training samples, highest first."""
        return tuple(m for m in self.ladder.magnifications if self.count("train", m) > 0)

    def count(self, split: str, magnification: float) -> int:
        return self.counts.get(split, {}).get(label(magnification), 0)

    def shards_of(self, split: str, magnification: float) -> list[ShardInfo]:
        """Return the shards of a split and magnification, in order."""
        return [
            shard
            for shard in self.shards
            if shard.split == split and label(shard.magnification) == label(magnification)
        ]

    def without(self, column: str) -> "Manifest":
        """Return a manifest that knows nothing of a column; none may speak of one that is being replaced."""
        shards = [replace(s, columns={k: v for k, v in s.columns.items() if k != column}) for s in self.shards]
        return replace(self, columns={k: v for k, v in self.columns.items() if k != column}, shards=shards)

    def with_column(
        self, column: str, facts: dict[str, Any], of_shard: Mapping[str, Mapping[str, Any]]
    ) -> "Manifest":
        """Return a manifest with a column: its facts, and bytes and SHA-256 of its tar for each shard path given."""
        shards = [
            replace(s, columns=s.columns | {column: dict(of_shard[s.path])}) if s.path in of_shard else s
            for s in self.shards
        ]
        return replace(self, columns=self.columns | {column: facts}, shards=shards)

    def check_encoder(self, encoder_name: str) -> None:
        """Refuse a data set whose grids another encoder made.

        Raises:
            DataError: names both encoders.
        """
        if self.encoder.name != encoder_name:
            raise DataError(
                f"{self.root or self.name}: its grids were made by encoder={self.encoder.name} ({self.encoder.dim} "
                f"channels), the configuration says encoder={encoder_name}; train with encoder={self.encoder.name}, or "
                f"run `python data_prep/prepare.py data={self.name} encoder={encoder_name} add=grid repack=true`"
            )

    def check_columns(self, columns: Iterable[str]) -> None:
        """Refuse a data set without a needed column.

        Raises:
            DataError: names the column and the command that adds it.
        """
        for column in columns:
            if column not in self.columns or not all(column in shard.columns for shard in self.shards):
                fix = "latents.py" if column == "latent" else "prepare.py"
                raise DataError(
                    f"{self.root or self.name}: no {column} column; `python data_prep/{fix} data={self.name}` adds it"
                )

    def excluded(self) -> frozenset[str]:
        """Return the patients and slides of ``exclude.txt`` (one a line, # comments), empty without the file.

        Raises:
            DataError: it cannot be read, so that nobody knows who is excluded.
        """
        path = (self.root or Path()) / EXCLUDE_NAME
        if self.root is None or not os.path.lexists(path):
            return frozenset()
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read ({error}); expected text, a patient or slide a line") from error
        lines = (line.split("#", 1)[0].strip() for line in text.splitlines())
        return frozenset(line for line in lines if line)
