"""Tables of an evaluation, and how their cells are written."""

from collections.abc import Iterable

from zoomldm.evaluation.distances import KERNEL_SAMPLES, SAMPLES_PER_DIMENSION
from zoomldm.evaluation.errors import Measure
from zoomldm.evaluation.report import references
from zoomldm.evaluation.report.page import Table, table_to_markdown
from zoomldm.evaluation.result import FRECHET, KERNEL, MAIN_ROW, Cell, Evaluation, MetricInfo

UNJUDGED, BY_KERNEL = "†", "‡"
MARKS = {FRECHET: "", KERNEL: f" {BY_KERNEL}", "": f" {UNJUDGED}"}
"""Behind a distance, by the estimator that verdicts rest on."""


def distance_table(evaluation: Evaluation, distance_name: str | None = None, *, with_paper: bool = True) -> Table:
    """Return rows × magnifications of a distance, ± its standard error, with the paper's Table 1 below."""
    name = distance_name or evaluation.judge.distance_name
    labels = evaluation.magnifications
    rows = [
        [row.title, *(format_cell(evaluation.cell(row.name, label, name)) for label in labels)]
        for row in evaluation.row_infos
    ]
    styles = _styles(evaluation.rows)
    if with_paper:
        for i, reference in enumerate((*references.TABLE_1, *references.LATER)):
            rows.append([f"FID: {reference.title}", *(_optional(reference.at(label)) for label in labels)])
            styles.append("quiet break" if i == 0 else "quiet")
    return Table([name, *labels], rows, styles, _caption(evaluation, name, with_paper))


def metric_table(evaluation: Evaluation, metric: MetricInfo) -> Table | None:
    """Return rows × magnifications of a further metric in the judging descriptor; None where nothing was measured."""
    found = evaluation.measured(metric.name)
    if not found:
        return None
    labels = [label for label in evaluation.magnifications if any(label in by_label for by_label in found.values())]
    shown = [row for row in evaluation.row_infos if row.name in found]
    of_pairs = metric.section == "pairs"
    rows = [
        [
            (of_pairs and row.paired_title) or row.title,
            *(format_measures(found[row.name].get(label), metric.template) for label in labels),
        ]
        for row in shown
    ]
    return Table([metric.title, *labels], rows, _styles([row.name for row in shown]), metric.caption)


def text_table(evaluation: Evaluation, distance_name: str | None = None) -> str:
    """Return the distance table as text for a terminal, the paper's Table 1 below."""
    return table_to_markdown(distance_table(evaluation, distance_name))


def text_claims(evaluation: Evaluation) -> str:
    """Return one line a claim for a terminal."""
    return "\n".join(f"  {claim.verdict:<14} {claim.statement}" for claim in evaluation.claims)


def format_cell(cell: Cell | None) -> str:
    """Return ``1.23 ± 0.04``, with ‡ where KID is judged in its place and † where nothing is."""
    return "–" if cell is None else format_measure(cell.distance) + MARKS[cell.judged_by]


def format_measures(measures: dict[str, Measure] | None, template: str = "") -> str:
    """Return a metric's figures by its template, or each with its standard error."""
    if not measures or any(measure.value is None for measure in measures.values()):
        return "–"
    if template:
        return template.format(**{name: measure.value for name, measure in measures.items()})
    return " / ".join(format_measure(measure) for measure in measures.values())


def format_measure(measure: Measure | None) -> str:
    """Return ``1.23 ± 0.04``."""
    if measure is None:
        return "–"
    if measure.error is None:
        return format_number(measure.value)
    return f"{format_number(measure.value)} ± {format_number(measure.error)}"


def format_number(value: float) -> str:
    """Return a figure with two to four digits that matter."""
    if value == 0:
        return "0"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 0.1 else 4
    return f"{value:.{digits}f}"


def _styles(rows: Iterable[str]) -> list[str]:
    return ["strong" if row == MAIN_ROW else "" for row in rows]


def _caption(evaluation: Evaluation, name: str, with_paper: bool) -> str:
    info = next(one for one in evaluation.descriptors if one.distance_name == name)
    need = SAMPLES_PER_DIMENSION * info.dim
    text = (
        f"{name}: Fréchet distance over {info.dim} numbers a patch, against real training patches, ± one standard "
        f"error. Verdicts rest on it from {need:,} patches on both sides ({SAMPLES_PER_DIMENSION} a dimension); "
        f"{BY_KERNEL} fewer: on the kernel distance (KID) instead; {UNJUDGED} fewer than {KERNEL_SAMPLES}, or no KID: "
        "not judged. A row with fewer patches than another lies higher for that alone."
    )
    if info.conditions_model:
        text += f" The model is conditioned on {info.name}, which flatters it here."
    if with_paper and name != "FID":
        text += (
            " The rows below are FIDs of 256 px patches of another data set, quoted for orientation: another metric, "
            "whose figures cannot be set against these."
        )
    elif with_paper:
        text += f" The rows below are quoted: {references.PAPER}."
    return text


def _optional(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
