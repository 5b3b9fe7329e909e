"""Shards that lie elsewhere: fetched whole into a bounded cache, then read like local ones.

`paths.remote` is what webdataset opens: `https://host/set`, `s3://bucket/set`, or a command with a place for the path,
`pipe:ssh host cat /set/{path}`. The manifest is local, in data.root. Samples come in an order that stays within one
shard of each magnification at a time (`GlobalSequence` with `shard_sizes`), so that each shard is fetched about once an
epoch, and going on at a step costs the fetching of the shards in use there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import queue
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from zoomldm.data.manifest import Manifest
from zoomldm.data.shards import build_index, column_path, index_path, write_index
from zoomldm.errors import DataError
from zoomldm.files import open_atomically, sha256_of

ATTEMPTS, PAUSE_S = 3, 2.0
PIECE = 1 << 20


class RemoteShards:
    """A cache of shard columns, shared by all processes that use one folder.

    folder: the cache; remote: where the shards lie; max_bytes: beyond which the longest unused are deleted; expected:
    {(shard path, column): {"bytes", "sha256"}} from the manifest.
    """

    def __init__(self, folder: Path, remote: str, *, max_bytes: int, expected: dict[tuple[str, str], dict]) -> None:
        self.folder, self.remote, self.max_bytes, self.expected = Path(folder), remote, max_bytes, expected
        self._wanted: queue.Queue[tuple[str, str]] | None = None
        self._asked: set[tuple[str, str]] = set()

    def url(self, path: str, column: str) -> str:
        """Return where a column of a shard lies."""
        name = str(column_path(path, column))
        return self.remote.replace("{path}", name) if "{path}" in self.remote else f"{self.remote.rstrip('/')}/{name}"

    def tar(self, path: str, column: str) -> Path:
        """Return the local copy of a column, fetching it where it is not there; other processes wait and share it.

        Raises:
            DataError: it cannot be fetched, or is not what the manifest says.
        """
        tar = column_path(self.folder / path, column)
        if not tar.is_file():
            tar.parent.mkdir(parents=True, exist_ok=True)
            with _locked(tar.with_name(f".{tar.name}.lock")):
                if not tar.is_file():
                    self._fetch(path, column, tar)
        os.utime(tar)
        return tar

    def want(self, columns: Iterable[tuple[str, str]]) -> None:
        """Fetch columns of shards in the background, in this order, unless they were asked for before."""
        for item in columns:
            if item in self._asked:
                continue
            if self._wanted is None:
                self._wanted = queue.Queue()
                threading.Thread(target=self._fetch_wanted, daemon=True).start()
            self._asked.add(item)
            self._wanted.put(item)

    def _fetch_wanted(self) -> None:
        while True:
            path, column = self._wanted.get()
            with contextlib.suppress(DataError):  # whoever reads the shard says it
                self.tar(path, column)
            self._asked.discard((path, column))
            self._wanted.task_done()

    def _fetch(self, path: str, column: str, tar: Path) -> None:
        reason = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(PAUSE_S * attempt)
            try:
                self._copy(self.url(path, column), tar)
                reason = self._fault(path, column, tar)
            except (OSError, ValueError, RuntimeError) as error:
                reason = str(error)
            if not reason:
                write_index(tar, build_index(tar))
                self._make_room(tar)
                return
            tar.unlink(missing_ok=True)
        raise DataError(
            f"{self.url(path, column)}: cannot be fetched ({reason}); paths.remote says where the shards lie"
        )

    def _copy(self, url: str, tar: Path) -> None:
        from webdataset import gopen

        with gopen(url, "rb") as source, open_atomically(tar) as target:
            while piece := source.read(PIECE):
                target.write(piece)

    def _fault(self, path: str, column: str, tar: Path) -> str:
        """Return what distinguishes a fetched file from the manifest's, empty where nothing does."""
        expected = self.expected.get((path, column), {})
        size = tar.stat().st_size
        if "bytes" in expected and size != expected["bytes"]:
            return f"{size:,} bytes came, the manifest says {expected['bytes']:,}"
        if expected.get("sha256") and sha256_of(tar) != expected["sha256"]:
            return "another checksum than the manifest's"
        return ""

    def _make_room(self, newest: Path) -> None:
        """Delete the longest unused tars until the rest fit; files that a process has open stay readable to it."""
        found = []
        for tar in self.folder.glob("shards/*/*/*.tar"):
            try:
                found.append((tar.stat().st_mtime, tar.stat().st_size, tar))
            except FileNotFoundError:
                continue
        total = sum(size for _, size, _ in found)
        for _, size, tar in sorted(found):
            if total <= self.max_bytes:
                break
            if tar != newest:
                tar.unlink(missing_ok=True)
                index_path(tar).unlink(missing_ok=True)
                total -= size

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_wanted": None, "_asked": set()}


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, "w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def remote_shards(manifest: Manifest, remote: str, *, cache: Path, max_bytes: int) -> RemoteShards:
    """Build the cache of a data set's shards, in a folder of its own under `cache`."""
    expected = {(shard.path, column): facts for shard in manifest.shards for column, facts in shard.columns.items()}
    folder = Path(cache) / f"shards-{manifest.name}-{manifest.sha256[:12]}"
    return RemoteShards(folder, remote, max_bytes=max_bytes, expected=expected)
