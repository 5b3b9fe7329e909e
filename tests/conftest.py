import logging
import os

import pytest

from tests.helpers.tiny_slides import tissue_pixels, write_slide


@pytest.fixture(autouse=True)
def root_logger_as_it_was():
    """Put back the root logger's level and handlers: Hydra and Ray set their own, which later tests would meet."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    for handler in root.handlers[:]:
        if handler not in handlers:
            root.removeHandler(handler)


@pytest.fixture(autouse=True)
def nothing_waits_for_the_disk(monkeypatch):
    """Flush nothing: tests end processes, not machines, and a busy disk takes long over each flush."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def tiny_slide(tmp_path):
    """Return a function that writes a tiny slide and returns its path: ``tiny_slide("a", width=700, mpp=0.25)``."""

    def make(name="slide", *, width=700, height=500, seed=0, folder="slides", suffix=".tif", **options):
        path = tmp_path / folder / f"{name}{suffix}"
        path.parent.mkdir(exist_ok=True)
        return write_slide(path, tissue_pixels(width, height, seed), **options)

    return make


@pytest.fixture
def slides(tiny_slide):
    """Return a folder of three tiny slides: a, b, c."""
    for number, name in enumerate(("a", "b", "c")):
        path = tiny_slide(name, seed=number, width=400, height=360)
    return path.parent
