"""Verdicts follow from differences and their errors, and from nothing else."""

from dataclasses import replace

import pytest

from tests.helpers.toy_evaluation import make_rows
from zoomldm.errors import UserError
from zoomldm.evaluation.claims import below, lowest_judged, overall, run_below, verdict
from zoomldm.evaluation.errors import Measure
from zoomldm.evaluation.report.compare import compare, merge
from zoomldm.evaluation.result import Cell, DescriptorInfo, Evaluation

LABELS = ["20x", "10x", "5x", "2.5x"]
INFO = DescriptorInfo(name="texture", distance_name="fd_texture", dim=20, fingerprint="t", conditions_model=False)


def measure(value: float, error: float = 0.1) -> Measure:
    wobble = error / 19**0.5
    return Measure(value, error, tuple(value + (wobble if i % 2 else -wobble) for i in range(20)))


def made(name: str, labels=LABELS, unjudged=(), ids="same", **rows) -> Evaluation:
    """Make an evaluation; ``rows``: a value, or one a magnification, for each row."""
    cells = {}
    for row, values in rows.items():
        values = values if isinstance(values, list) else [values] * len(labels)
        cells[row] = {
            label: Cell(
                num=90,
                num_reference=90,
                judged_by="" if label in unjudged else "frechet",
                distance=measure(v),
                measures={"paired": measure(2 * v)},
            )
            for label, v in zip(labels, values)
        }
    return Evaluation(
        run_name=name,
        step=1,
        magnifications=list(labels),
        descriptors=[INFO],
        row_infos=[row.info() for row in make_rows(*rows)],
        reference_ids=dict.fromkeys(labels, ids),
        cells={"fd_texture": cells},
    )


@pytest.mark.parametrize(
    ("gap", "expected"),
    [
        (Measure(1.0, 0.4), "holds"),
        (Measure(1.0, 0.6), "not separated"),
        (Measure(-1.0, 0.6), "not separated"),
        (Measure(-1.0, 0.4), "does not hold"),
        (Measure(1.0), "not judged"),
    ],
)
def test_two_standard_errors(gap, expected):
    assert verdict(gap) == expected


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (["holds", "holds"], "holds"),
        (["holds", "not separated"], "not separated"),
        (["holds", "does not hold", "not separated"], "does not hold"),
        (["holds", "not judged"], "holds"),
        ([], "not judged"),
    ],
)
def test_a_claim_holds_only_everywhere(verdicts, expected):
    assert overall(verdicts) == expected


def test_below_counts_judged_magnifications_only():
    found = made("x", unjudged=["2.5x"], oracle=[1, 1, 1, 9], untrained=5.0)
    claim = below(found, "oracle", "untrained", "trained below untrained")
    assert claim.verdict == "holds"
    assert len(claim.details) == 3
    assert "3 of 3" in claim.statement


def test_equal_rows_are_not_separated_and_the_reverse_does_not_hold():
    assert below(made("x", oracle=1.0, untrained=1.0), "oracle", "untrained", "s").verdict == "not separated"
    assert below(made("x", oracle=3.0, untrained=1.0), "oracle", "untrained", "s").verdict == "does not hold"


def test_the_lowest_judged_magnifications_are_shared():
    assert lowest_judged([made("a", oracle=1.0), made("b", unjudged=["2.5x"], oracle=1.0)]) == ["20x", "10x", "5x"]
    assert lowest_judged([made("a", oracle=1.0), made("b", labels=["5x"], oracle=1.0)]) == ["5x"]


def test_runs_on_other_patches_are_compared_with_independent_errors():
    low, high = made("a", oracle=1.0), made("b", oracle=1.25)
    other = made("b", ids="other", oracle=1.25)
    assert run_below(low, high, ("a", "b")).verdict == "holds"
    assert run_below(low, other, ("a", "b")).verdict == "not separated"


def test_comparison_shows_every_run_and_claims():
    runs = [
        ("film", made("a", oracle=1.0, halves=0.5)),
        ("mag", made("b", oracle=2.0)),
        ("none", made("c", oracle=1.0)),
    ]
    found = compare(runs, below=[("film", "mag"), ("film", "none"), ("film", "absent")])
    assert [claim.verdict for claim in found.claims] == ["holds", "holds", "not separated", "not separated"]
    text = found.to_text()
    assert all(name in text for name in ("film", "mag", "none", "real, other half"))
    assert found.metrics()["fd_texture/oracle/20x/mag"] == 2.0
    assert "number of steps" not in text
    longer = replace(made("b", oracle=2.0), step=1600)
    assert "same number of steps: film 1, mag 1,600" in compare([runs[0], ("mag", longer)]).to_text()


def test_single_magnification_runs_become_one_row():
    singles = [("single", made("s20", labels=["20x"], oracle=4.0)), ("single", made("s5", labels=["5x"], oracle=3.0))]
    found = compare([("unified", made("u", oracle=1.0)), *singles], below=[("unified", "single")])
    row = found.table().rows[-1]
    assert row[0] == "single, oracle conditions"
    assert [cell.split(" ")[0] for cell in row[1:]] == ["4.00", "–", "3.00", "–"]
    assert found.claims[0].verdict == "holds"
    assert merge([one for _, one in singles]).magnifications == ["20x", "5x"]


def test_nothing_to_compare_and_different_judges_are_refused():
    with pytest.raises(UserError, match="no run"):
        compare([])
    other = made("b", oracle=1.0)
    other.descriptors = [DescriptorInfo(name="s", distance_name="fd_s", dim=2, fingerprint="s", conditions_model=False)]
    other.cells = {"fd_s": other.cells["fd_texture"]}
    with pytest.raises(UserError, match="different descriptors"):
        compare([("a", made("a", oracle=1.0)), ("b", other)])


def test_comparison_pages_are_written(tmp_path):
    found = compare(
        [("film", made("a", oracle=1.0, halves=0.5)), ("mag", made("b", oracle=2.0))], below=[("film", "mag")]
    )
    path = found.write(tmp_path, title="Conditioning")
    assert "data:image/png;base64" in path.read_text()
    assert "film lies below mag" in (tmp_path / "comparison.md").read_text()
