"""Damaged slides, tables, drawings, shards, manifests and state files: done, or failed with a reason; nothing else.

`make fuzz N=2000 SEED=0` runs the cases of tests/helpers/fuzz.py, `make fuzz CASE=state-0-17` one of them again.
"""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from data_prep.execution.executor import Died
from data_prep.execution.local import LocalExecutor
from data_prep.work.job import SlideJob
from data_prep.work.prepare_slide import prepare_slide
from tests.helpers.fuzz import KINDS, Case, case_named, make_base, run_case, run_cases
from tests.helpers.mutations import BYTES
from tests.helpers.real_slide import REAL_SLIDE, needs_real_slide
from tests.helpers.tiny_slides import spec_of, tiny_settings
from zoomldm.files import progress

ROOT = Path(__file__).resolve().parents[2]
NUM_CASES, SEED = (int(os.environ.get(f"ZOOMLDM_FUZZ_{name}") or value) for name, value in (("N", 2000), ("SEED", 0)))
CASE = os.environ.get("ZOOMLDM_FUZZ_CASE")
LIMIT_S = 120
NUM_COPIES = int(os.environ.get("ZOOMLDM_FUZZ_COPIES", "500"))
A_BATCH = 50


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    make_base(folder)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_cases(base, kind):
    for number in range(4):
        outcome = run_case(Case(kind, 99, number, base))
        assert not outcome.fault, (number, outcome)


@pytest.mark.slow
def test_all_cases():
    folder = ROOT / "cache" / "fuzz"
    folder.mkdir(parents=True, exist_ok=True)
    if not (CASE and (folder / "base").is_dir()):
        make_base(folder)
    cases = [Case(KINDS[n % len(KINDS)], SEED, n // len(KINDS), folder) for n in range(NUM_CASES)]
    counts: Counter = Counter()
    faults = []
    cases = [case_named(CASE, folder)] if CASE else cases
    with progress(total=len(cases), label="fuzz", unit="case") as bar:
        for case, outcome in run_cases(cases, LIMIT_S):
            counts[case.kind, "FAULT" if outcome.fault else outcome.what] += 1
            if outcome.fault:
                faults.append(case.name)
                bar.write(f"{case.name}: {outcome.damage} {outcome.target}, then {outcome.command}: {outcome.fault}")
            bar.set_postfix(faults=len(faults), refresh=False)
            bar.update()
    for (kind, what), number in sorted(counts.items()):
        print(f"{kind:>10}  {what:<8} {number:>5}")
    assert not faults, f"kept in {folder / 'kept'}; again: make fuzz CASE={faults[0]}"


def run_batch(folder: Path, first: int, count: int) -> list[object]:
    content = REAL_SLIDE.read_bytes()
    settings = tiny_settings(patch_px=256, num_rungs=3, min_object_um2=10_000.0)
    jobs = []
    for number in range(first, first + count):
        path, rng = folder / f"m{number}.svs", np.random.default_rng(number)
        path.write_bytes(BYTES[rng.integers(len(BYTES))](rng, content))
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
