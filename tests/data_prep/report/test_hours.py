"""plan=true says each part of the work by itself, and by which rate."""

import numpy as np
import pytest

from data_prep.execution.encoding.own import share, stop_sharing
from data_prep.report import hours
from data_prep.report.hours import Speed, Work, hour_lines, readable_hours, speed_of
from tests.helpers.prepare import MeanColour
from zoomldm.config import option_of

WORK = Work(
    num_read_px=int(3600 * 1.7e8),
    num_icc_px=int(2 * 3600 * 4.3e7),
    num_base_px=int(3600 * 7.5e7),
    num_tiles=3_600_000,
    num_samples=5_400_000,
    num_bytes=7200 * 2.5e8,
)
SPEED = Speed(tiles_s=250, device="a GPU", source="measured now")


def test_reading_profiles_encoding_and_packing_are_said_apart():
    lines = [line.split("(")[0].split() for line in hour_lines(WORK, SPEED)]
    assert lines == [
        ["reading", "2.0", "hours", "of", "a", "core"],
        ["colour", "profiles", "2.0", "hours", "of", "a", "core"],
        ["encoding", "4.0", "hours", "of", "a", "GPU"],
        ["packing", "3.0", "hours", "of", "a", "core"],
    ]
    assert "3,600,000 tiles at 250 a second, measured now" in "\n".join(hour_lines(WORK, SPEED))


def test_slides_without_a_profile_cost_none():
    assert not any("profile" in line for line in hour_lines(Work(**vars(WORK) | {"num_icc_px": 0}), SPEED))


def test_the_encoder_is_timed_in_its_own_batches(monkeypatch):
    called = []

    class Slow(MeanColour):
        batch_size = 32

        def __call__(self, tiles: np.ndarray) -> np.ndarray:
            called.append(len(tiles))
            return tiles.mean((1, 2), dtype=np.float32)

    clock = iter(range(1000))
    monkeypatch.setattr(hours.time, "perf_counter", lambda: next(clock) / 4)  # each call takes a quarter of a second
    option = option_of("encoder", "stats")
    share(option, Slow())
    try:
        speed = speed_of(option, 16)
    finally:
        stop_sharing(option)
    assert called == [1, 2, 4, 8, 16, 32]
    assert speed.tiles_s == pytest.approx(32 * 4)
    assert speed.device == "a core"


def test_an_encoder_that_cannot_be_made_is_guessed_and_said_so(tmp_path):
    speed = speed_of(option_of("encoder", "hipt", weights=str(tmp_path / "none.pth")), 256)
    assert speed.source.startswith("a guess")
    assert speed.tiles_s == pytest.approx(381, abs=1)


def test_durations_are_said_as_people_do():
    assert [readable_hours(h) for h in (0.001, 0.5, 45.22)] == ["4 s", "30 min", "45.2 hours"]
