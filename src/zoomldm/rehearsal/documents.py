"""Commands out of the documents: what a reader would type, from the indented code lines of a page."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

PAGES = ("README.md", "docs/*.md", "experiments/**/*.md")
INDENT = "    "
ELLIPSIS = "…"
ENTRY = re.compile(r"python (?P<script>\S+\.py)(?P<words>.*)")
PAPER_SIZE = re.compile(r"brca_8mag|^model=(zoomldm|edm)$")
"""A word that makes a command one of the paper's size."""


@dataclass(frozen=True)
class Command:
    """One command of a document.

    Attributes:
        page: where it stands, relative to the repository.
        script: ``src/train.py``.
        words: what follows it; a leading ``…`` is written out.
    """

    page: str
    script: str
    words: tuple[str, ...]

    @property
    def is_paper_size(self) -> bool:
        return any(PAPER_SIZE.search(word) for word in self.words)

    def __str__(self) -> str:
        return shlex.join(["python", self.script, *self.words]).replace("'", "")


def paper_size_commands(root: Path) -> list[Command]:
    """Return every command of the paper's size that README, docs/ and experiments/ tell a reader to type."""
    pages = [path for pattern in PAGES for path in sorted(root.glob(pattern))]
    found = [one for path in pages for one in commands_of(path.read_text(encoding="utf-8"), _name(path, root))]
    return [one for one in found if one.is_paper_size]


def commands_of(text: str, page: str) -> Iterator[Command]:
    """Yield the commands of a page's indented lines, comments taken off and continued lines joined.

    A leading ``…`` stands for the words of the first command of that script in the same block of lines.
    """
    for block in _code_blocks(text):
        first: dict[str, tuple[str, ...]] = {}
        for line in block:
            match = ENTRY.fullmatch(line.split("  #")[0].strip())
            if not match:
                continue
            script, given = match["script"], shlex.split(match["words"])
            if given[:1] == [ELLIPSIS] and script in first:
                given = [*without(first[script], map(key_of, given)), *given[1:]]
            first.setdefault(script, tuple(given))
            yield Command(page, script, tuple(given))


def without(words: Iterable[str], keys: Iterable[str]) -> list[str]:
    """Return the words that set none of these keys."""
    keys = set(keys)
    return [word for word in words if key_of(word) not in keys]


def key_of(word: str) -> str:
    """Return the key that an override sets."""
    return word.split("=", 1)[0].lstrip("+~")


def _code_blocks(text: str) -> Iterator[list[str]]:
    block: list[str] = []
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if line.startswith(INDENT):
            block.append(line)
        elif block:
            yield block
            block = []
    if block:
        yield block


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
