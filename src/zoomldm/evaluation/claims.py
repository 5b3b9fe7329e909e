"""What the figures must show if they mean anything, tested and reported as it comes out.

A difference is called separated when it is at least 2 standard errors from zero (jackknife). Magnifications with too
few samples are left out. Nothing here is tuned: a claim that the figures do not carry is reported as "not separated",
one that they contradict as "does not hold".
"""

from collections.abc import Sequence

from zoomldm.evaluation.distances import Measure, difference
from zoomldm.evaluation.result import Claim, Evaluation

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


def below(evaluation: Evaluation, lower: str, upper: str, statement: str, *, paired: bool = False) -> Claim:
    """Claim that row ``lower`` lies below row ``upper`` at every judged magnification, by sets or by pairs."""
    verdicts, details = [], []
    for label in evaluation.magnifications:
        low, high = evaluation.cell(lower, label), evaluation.cell(upper, label)
        if low is None or high is None or not (low.judged and high.judged):
            continue
        measures = (high.paired, low.paired) if paired else (high.distance, low.distance)
        if None in measures:
            continue
        gap = difference(*measures)
        verdicts.append(verdict(gap))
        details.append(f"{label}: {measures[1].value:.3g} against {measures[0].value:.3g}, {_gap(gap)}: {verdicts[-1]}")
    return Claim(statement=_counted(statement, verdicts), verdict=overall(verdicts), details=tuple(details))


def claims_of(evaluation: Evaluation) -> list[Claim]:
    """Return the claims that the evaluated rows can be asked about."""
    rows, name = set(evaluation.rows), evaluation.judge.distance_name
    wanted = [
        ("halves", "reconstructions", "real halves lie below the autoencoder's reconstructions", False),
        ("halves", "oracle", "real halves lie below the trained model", False),
        ("oracle", "untrained", "the trained model lies below the untrained one", False),
        ("generated", "untrained", "generated conditions lie below the untrained model", False),
        ("oracle", "shuffled", "right conditions lie below shuffled ones, each patch against its own reference", True),
    ]
    return [
        below(evaluation, low, high, f"{name}: {text}", paired=paired)
        for low, high, text, paired in wanted
        if {low, high} <= rows
    ]


def lowest_judged(evaluations: Sequence[Evaluation]) -> list[str]:
    """Return the three lowest magnifications at which all runs' oracle rows are judged, highest first."""
    shared = [
        label
        for label in evaluations[0].magnifications
        if all((cell := one.cell("oracle", label)) is not None and cell.judged for one in evaluations)
    ]
    return shared[-NUM_LOWEST:]


def run_below(lower: Evaluation, upper: Evaluation, names: tuple[str, str], *, paired: bool = False) -> Claim:
    """Claim that one run's oracle row lies below another's at the lowest judged magnifications."""
    verdicts, details = [], []
    for label in lowest_judged([lower, upper]):
        same = lower.reference_ids[label] == upper.reference_ids[label]
        low, high = lower.cell("oracle", label), upper.cell("oracle", label)
        measures = (high.paired, low.paired) if paired else (high.distance, low.distance)
        if None in measures:
            continue
        gap = difference(*measures, same_samples=same)
        verdicts.append(verdict(gap))
        details.append(f"{label}: {measures[1].value:.3g} against {measures[0].value:.3g}, {_gap(gap)}: {verdicts[-1]}")
    way = ", each patch against its own reference" if paired else ""
    statement = (
        f"{lower.judge.distance_name}: {names[0]} lies below {names[1]} at the lowest judged magnifications{way}"
    )
    return Claim(statement=_counted(statement, verdicts), verdict=overall(verdicts), details=tuple(details))


def _gap(gap: Measure) -> str:
    return f"difference {gap.value:+.3g}" + (f" ± {gap.error:.2g}" if gap.error is not None else "")


def _counted(statement: str, verdicts: Sequence[str]) -> str:
    if not verdicts:
        return f"{statement} (no magnification has enough samples)"
    return f"{statement} ({sum(v == HOLDS for v in verdicts)} of {len(verdicts)} judged magnifications)"
