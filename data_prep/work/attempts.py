"""How often a process has died over a slide: after some times it is not tried again."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_prep.slides.files import stamp_of
from zoomldm.errors import DataError
from zoomldm.files import remove
from zoomldm.stored import read_json

MAX_ATTEMPTS = 5


class Attempts:
    """The attempts at a slide that were begun and never ended, in a file that an ended one takes away.

    It stands outside the slide's folder and is written before the attempt, since what dies may be the parent as well.
    Of another file under the slide's name the count begins anew.
    """

    def __init__(self, path: Path, slide: Path) -> None:
        self.path, self._slide = path, slide

    def number(self) -> int:
        try:
            noted = read_json(self.path)
            return int(noted["attempts"]) if noted["stamp"] == self._stamp() else 0
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def check(self) -> None:
        """Refuse a slide that has been tried often enough.

        Raises:
            DataError: says how often, and what to do.
        """
        if self.number() >= MAX_ATTEMPTS:
            raise DataError(
                f"{self._slide}: the process that worked on it has died {self.number()} times (out of memory, a fault "
                f"in a decoder, timeout_s); it is not tried again until {self.path} is deleted, or the file is another"
            )

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count an attempt, unless the process lives to its end."""
        self.path.write_text(json.dumps({"attempts": self.number() + 1, "stamp": self._stamp()}))
        try:
            yield
        finally:
            remove(self.path)

    def _stamp(self) -> list[int]:
        try:
            return list(stamp_of(self._slide))
        except (OSError, DataError):
            return []
