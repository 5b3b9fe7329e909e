"""How a shard takes what it holds from its slides' work: each slide once, one after the other."""

from collections import Counter
from typing import ClassVar

import pytest

from data_prep.pack import write
from data_prep.pack.slide_work import SlideWork
from data_prep.work.store import SlideStore
from tests.helpers.prepare import hashes, prepare_folder
from zoomldm.errors import DataError


class Watched(SlideWork):
    """Counts how often a slide's work is opened, and how many are open at once."""

    opened: ClassVar[list[str]] = []
    num_open = most_open = 0

    def __enter__(self):
        Watched.opened.append(self.store.slide)
        Watched.num_open += 1
        Watched.most_open = max(Watched.most_open, Watched.num_open)
        return super().__enter__()

    def __exit__(self, *error):
        Watched.num_open -= 1
        super().__exit__(*error)


@pytest.fixture
def watched(monkeypatch):
    monkeypatch.setattr(write, "SlideWork", Watched)
    Watched.opened, Watched.num_open, Watched.most_open = [], 0, 0
    return Watched


FRACTIONS = {"20x": 0.5, "10x": 1.0, "5x": 1.0, "2.5x": 1.0}


def test_a_shard_opens_each_slide_once_and_one_at_a_time(slides, tmp_path, watched):
    """All columns together, whatever the order of the samples."""
    manifest = prepare_folder(slides, tmp_path / "data", image_format="jpeg", reference=FRACTIONS, shard_samples=100)
    assert len(manifest.shards) > 4
    assert watched.most_open == 1
    most = Counter()
    for shard in manifest.shards:
        most.update(manifest.patients[shard.split])
    assert Counter(watched.opened) <= most


def test_what_is_held_in_memory_at_once_does_not_change_a_byte(slides, tmp_path, watched, monkeypatch):
    told = {"image_format": "jpeg", "reference": FRACTIONS}
    manifest = prepare_folder(slides, tmp_path / "whole", **told)
    num_opened = len(watched.opened)
    monkeypatch.setattr(write, "BYTES_AT_ONCE", 1)
    prepare_folder(slides, tmp_path / "one", **told)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "whole")
    assert len(watched.opened) - num_opened == sum(shard.num_samples for shard in manifest.shards)


def test_images_that_are_cut_short_are_said(slides, tmp_path):
    prepare_folder(slides, tmp_path / "data")
    path = SlideStore(tmp_path / "data", "a").images_path
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"slides/a: the slide's work is damaged \(images\.bin is cut short\)"):
        prepare_folder(slides, tmp_path / "data", shard_samples=50, repack=True)
