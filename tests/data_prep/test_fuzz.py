"""Mutated copies of a real slide: no crash of the run, no hang, no slide missing from the report."""

import os
from pathlib import Path

import numpy as np
import pytest

from data_prep.execution.executor import Died
from data_prep.execution.local import LocalExecutor
from data_prep.work.job import SlideJob
from data_prep.work.prepare_slide import prepare_slide
from tests.helpers.real_slide import REAL_SLIDE, needs_real_slide
from tests.helpers.tiny_slides import spec_of, tiny_settings

NUM_COPIES = int(os.environ.get("ZOOMLDM_FUZZ_COPIES", "500"))
A_BATCH = 50
KINDS = ("bytes", "header", "cut", "zeros", "insert", "swap")


def mutate(content: bytes, rng: np.random.Generator) -> bytes:
    """Damage a copy in one of six ways, a little or a lot."""
    data, size = bytearray(content), len(content)
    kind = KINDS[rng.integers(len(KINDS))]
    if kind == "bytes":
        for position in rng.integers(0, size, int(10 ** rng.uniform(0, 4))):
            data[position] = rng.integers(256)
    elif kind == "header":  # the directories lie at the end of an SVS, its first bytes point there
        tail = size - 20_000
        for position in [*rng.integers(0, 16, rng.integers(0, 3)), *rng.integers(tail, size, rng.integers(1, 40))]:
            data[position] = rng.integers(256)
    elif kind == "cut":
        del data[int(size * rng.random()) :]
    elif kind == "zeros":
        start, length = int(size * rng.random()), int(10 ** rng.uniform(1, 5.5))
        data[start : start + length] = bytes(min(length, size - start))
    elif kind == "insert":
        position = int(size * rng.random())
        data[position:position] = rng.bytes(int(10 ** rng.uniform(0, 3)))
    else:
        one, other, length = *rng.integers(0, size - 5000, 2), int(rng.integers(1, 5000))
        data[one : one + length], data[other : other + length] = (
            data[other : other + length],
            data[one : one + length],
        )
    return bytes(data)


def run_batch(folder: Path, first: int, count: int) -> list[object]:
    content = REAL_SLIDE.read_bytes()
    settings = tiny_settings(patch_px=256, num_rungs=3, min_object_um2=10_000.0)
    jobs = []
    for number in range(first, first + count):
        path = folder / f"m{number}.svs"
        path.write_bytes(mutate(content, np.random.default_rng(number)))
        jobs.append(SlideJob(spec=spec_of(path), settings=settings, root=folder / "data", by_area=False))
    results: list[object] = [None] * count
    for position, result in LocalExecutor(2, timeout_s=120).map(prepare_slide, jobs):
        results[position] = result
        jobs[position].spec.path.unlink()
    return results


def check(results: list[object]) -> None:
    for number, result in enumerate(results):
        assert result is not None, f"copy {number} is missing from the report"
        if isinstance(result, Died):
            assert "took longer" not in result.reason, f"copy {number} hangs"
            continue
        assert result.status in ("done", "failed")
        assert result.status == "done" or result.reason, f"copy {number} failed without a reason"


@needs_real_slide
def test_a_few_mutated_copies_of_the_real_slide(tmp_path):
    results = run_batch(tmp_path, 0, 12)
    check(results)
    assert any(not isinstance(r, Died) and r.status == "failed" for r in results)


@pytest.mark.slow
@needs_real_slide
def test_five_hundred_mutated_copies_of_the_real_slide(tmp_path):
    outcomes = {"done": 0, "failed": 0, "died": 0}
    for first in range(0, NUM_COPIES, A_BATCH):
        results = run_batch(tmp_path, first, min(A_BATCH, NUM_COPIES - first))
        check(results)
        for result in results:
            outcomes["died" if isinstance(result, Died) else result.status] += 1
    print(outcomes)
    assert sum(outcomes.values()) == NUM_COPIES
