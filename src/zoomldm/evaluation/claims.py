"""What the figures must show if they mean anything, tested and reported as it comes out.

A difference is called separated when it is at least 2 standard errors from zero (jackknife over patients). It is one of
Fréchet distances where both sides have enough patches for them and of kernel distances where they have fewer;
magnifications with too few for either are left out. Nothing here is tuned: a claim that the figures do not carry is
reported as "not separated", one that they contradict as "does not hold".
"""

from collections.abc import Sequence
from dataclasses import dataclass

from zoomldm.evaluation.errors import Measure, difference
from zoomldm.evaluation.result import FRECHET, KERNEL, MAIN_ROW, Cell, Claim, Evaluation

HOLDS, NOT_SEPARATED, DOES_NOT_HOLD, NOT_JUDGED = "holds", "not separated", "does not hold", "not judged"
STANDARD_ERRORS = 2.0
NUM_LOWEST = 3  # "the lowest magnifications" are the three lowest that are judged


def verdict(gap: Measure) -> str:
    """Judge a difference that a claim wants to be positive."""
    if gap.error is None:
        return NOT_JUDGED
    if gap.value > STANDARD_ERRORS * gap.error:
        return HOLDS
    return DOES_NOT_HOLD if gap.value < -STANDARD_ERRORS * gap.error else NOT_SEPARATED


def overall(verdicts: Sequence[str]) -> str:
    """Hold only what holds at every magnification; one contradiction is a contradiction."""
    judged = [one for one in verdicts if one != NOT_JUDGED]
    if not judged:
        return NOT_JUDGED
    if DOES_NOT_HOLD in judged:
        return DOES_NOT_HOLD
    return HOLDS if all(one == HOLDS for one in judged) else NOT_SEPARATED


@dataclass(frozen=True)
class Expectation:
    """What a row is there to show: that row ``lower`` lies below row ``upper``, by sets or by pairs."""

    lower: str
    upper: str
    text: str
    paired: bool = False


def claims_of(evaluation: Evaluation, expectations: Sequence[Expectation]) -> list[Claim]:
    """Return the claims that the evaluated rows can be asked about."""
    name = evaluation.judge.distance_name
    return [
        below(evaluation, one.lower, one.upper, f"{name}: {one.text}", paired=one.paired)
        for one in expectations
        if {one.lower, one.upper} <= set(evaluation.rows)
    ]


def below(evaluation: Evaluation, lower: str, upper: str, statement: str, *, paired: bool = False) -> Claim:
    """Claim that row ``lower`` lies below row ``upper`` at every judged magnification, by sets or by pairs."""
    judged = [label for label in evaluation.judged(lower) if label in evaluation.judged(upper)]
    pairs = [(label, evaluation.cell(lower, label), evaluation.cell(upper, label), True) for label in judged]
    return _claim(statement, pairs, paired=paired)


def same_samples(a: Evaluation, b: Evaluation, label: str) -> bool:
    """Tell whether two evaluations stand against the same real patches, so that leaving some out left out the same."""
    patches = [one.reference_patches.get(label) for one in (a, b)]
    return a.reference_ids.get(label) == b.reference_ids.get(label) or (patches[0] == patches[1] and bool(patches[0]))


def lowest_judged(evaluations: Sequence[Evaluation]) -> list[str]:
    """Return the three lowest magnifications at which all runs' oracle rows are judged, highest first."""
    shared = [
        label for label in evaluations[0].magnifications if all(label in one.judged(MAIN_ROW) for one in evaluations)
    ]
    return shared[-NUM_LOWEST:]


def run_below(lower: Evaluation, upper: Evaluation, names: tuple[str, str], *, paired: bool = False) -> Claim:
    """Claim that one run's oracle row lies below another's at the lowest judged magnifications."""
    way = ", each patch against its own reference" if paired else ""
    statement = (
        f"{lower.judge.distance_name}: {names[0]} lies below {names[1]} at the lowest judged magnifications{way}"
    )
    pairs = [
        (
            label,
            lower.cell(MAIN_ROW, label),
            upper.cell(MAIN_ROW, label),
            same_samples(lower, upper, label),
        )
        for label in lowest_judged([lower, upper])
    ]
    return _claim(statement, pairs, paired=paired)


def _claim(statement: str, pairs: Sequence[tuple[str, Cell, Cell, bool]], *, paired: bool) -> Claim:
    """Judge (magnification, lower cell, upper cell, whether both left out the same samples)."""
    verdicts, details = [], []
    for label, lower, upper, same_samples in pairs:
        estimator = FRECHET if {lower.judged_by, upper.judged_by} == {FRECHET} else KERNEL
        low, high = (lower.paired, upper.paired) if paired else (lower.by(estimator), upper.by(estimator))
        if low is None or high is None:
            continue
        gap = difference(high, low, same_samples=same_samples)
        verdicts.append(verdict(gap))
        by = "by KID, " if estimator == KERNEL and not paired else ""
        details.append(f"{label}: {by}{low.value:.3g} against {high.value:.3g}, {_gap(gap)}: {verdicts[-1]}")
    return Claim(statement=_counted(statement, verdicts), verdict=overall(verdicts), details=tuple(details))


def _gap(gap: Measure) -> str:
    return f"difference {gap.value:+.3g}" + (f" ± {gap.error:.2g}" if gap.error is not None else "")


def _counted(statement: str, verdicts: Sequence[str]) -> str:
    if not verdicts:
        return f"{statement} (no magnification has enough samples)"
    return f"{statement} ({sum(v == HOLDS for v in verdicts)} of {len(verdicts)} judged magnifications)"
