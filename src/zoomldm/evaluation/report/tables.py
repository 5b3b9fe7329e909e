"""The report of one evaluation: tables, claims, panels and curves, as HTML in one file and as Markdown."""

import json
import os
import re
from pathlib import Path

from zoomldm.evaluation.distances import SAMPLES_PER_DIMENSION, Measure
from zoomldm.evaluation.evaluator import Examples
from zoomldm.evaluation.report import references
from zoomldm.evaluation.report.page import Claims, Folded, Page, Picture, Section, Table, table_to_markdown
from zoomldm.evaluation.result import PAIRED_ROWS, ROW_MEANINGS, ROWS, Cell, Evaluation
from zoomldm.files import write_atomically
from zoomldm.sampling import pictures

UNJUDGED = "†"
ROW_COLOURS = {
    "halves": "#8b8b93",
    "held_out": "#5f7f9e",
    "reconstructions": "#5a9a76",
    "oracle": "#9b2c5e",
    "generated": "#6b4fa0",
    "shuffled": "#dba3bd",
    "untrained": "#3a3a3f",
}
_PER_MAGNIFICATION = re.compile(r"^(?P<series>.+)/(?P<label>[0-9.]+x)$")


def write_report(
    evaluation: Evaluation, examples: Examples, folder: str | os.PathLike, *, metrics: Path | None = None
) -> Path:
    """Write ``index.html`` (one file), ``report.md`` and its pictures into a folder; return the path of the HTML.

    Args:
        metrics: the run's ``metrics.jsonl``, for loss curves per magnification.
    """
    folder = Path(folder)
    page = build_page(evaluation, examples, loss_curves(metrics))
    for picture in page.pictures():
        write_atomically(folder / picture.name, picture.png)
    write_atomically(folder / "report.md", page.to_markdown())
    write_atomically(folder / "index.html", page.to_html())
    return folder / "index.html"


def build_page(
    evaluation: Evaluation, examples: Examples, curves: dict[str, dict[str, list[tuple[int, float]]]]
) -> Page:
    """Lay the report out; ``curves``: series → magnification → [(step, loss)]."""
    sections = [
        _pictures_section(evaluation, examples),
        _distance_section(evaluation),
        Section("What the figures show", _claims_items(evaluation)),
        _paired_section(evaluation),
        _novel_section(examples),
        _further_section(evaluation),
        _loss_section(curves),
        _facts_section(evaluation),
    ]
    return Page(
        title=f"{evaluation.run_name}: synthetic patches, magnification by magnification",
        lead=summary_sentence(evaluation),
        facts=_facts_line(evaluation),
        sections=[section for section in sections if section is not None and section.items],
    )


def distance_table(evaluation: Evaluation, distance_name: str | None = None, *, with_paper: bool = True) -> Table:
    """Return rows × magnifications of a distance, ± its standard error, with the paper's Table 1 below."""
    name = distance_name or evaluation.judge.distance_name
    labels = evaluation.magnifications
    rows = [
        [ROWS[row], *(format_cell(evaluation.cell(row, label, name)) for label in labels)] for row in evaluation.rows
    ]
    styles = ["strong" if row == "oracle" else "" for row in evaluation.rows]
    if with_paper:
        for i, reference in enumerate((*references.TABLE_1, *references.LATER)):
            rows.append([f"FID: {reference.title}", *(_optional(reference.at(label)) for label in labels)])
            styles.append("quiet break" if i == 0 else "quiet")
    return Table([name, *labels], rows, styles, _caption(evaluation, name, with_paper))


def paired_table(evaluation: Evaluation) -> Table:
    """Return the mean squared distance of each patch to its own reference, rows × magnifications."""
    labels = evaluation.magnifications
    shown = [row for row in evaluation.rows if row in PAIRED_ROWS]
    titles = {**ROWS, "halves": "real, an unrelated patch"}
    rows = [
        [titles[row], *(_measure((cell := evaluation.cell(row, label)) and cell.paired) for label in labels)]
        for row in shown
    ]
    return Table(
        [f"{evaluation.judge.distance_name}, paired", *labels],
        rows,
        ["strong" if row == "oracle" else "" for row in shown],
        "Mean squared distance of each patch to its own reference, in the unit of the distance above. The Fréchet "
        "distance pairs two sets in the best possible way; here the pairs are given.",
    )


def text_table(evaluation: Evaluation, distance_name: str | None = None) -> str:
    """Return the distance table as text for a terminal, the paper's Table 1 below."""
    return table_to_markdown(distance_table(evaluation, distance_name))


def text_claims(evaluation: Evaluation) -> str:
    """Return one line a claim for a terminal."""
    return "\n".join(f"  {claim.verdict:<14} {claim.statement}" for claim in evaluation.claims)


def summary_sentence(evaluation: Evaluation) -> str:
    """Say in one sentence how far the synthetic patches are from real ones, at the ends of what is judged."""
    name, judged = evaluation.judge.distance_name, evaluation.judged("oracle")
    if not judged:
        return f"No magnification has enough patches for {name} to be judged; the figures below are shown as they are."
    parts = []
    for label in dict.fromkeys((judged[0], judged[-1])):
        oracle, floor = evaluation.cell("oracle", label), evaluation.cell("halves", label)
        beside = f", where two halves of the real patches are at {_number(floor.distance.value)}" if floor else ""
        far = evaluation.cell("untrained", label)
        beside += f" and the untrained network at {_number(far.distance.value)}" if far else ""
        parts.append(f"at {label} {name} is {_number(oracle.distance.value)}{beside}")
    sentence = "; ".join(parts)
    return f"With the conditions of training patches, {sentence}."


def loss_curves(path: Path | None) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Read series → magnification → [(step, loss)] from a ``metrics.jsonl``; empty without one."""
    curves: dict[str, dict[str, list[tuple[int, float]]]] = {}
    if path is None or not Path(path).is_file():
        return curves
    for line in Path(path).read_text().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        match = _PER_MAGNIFICATION.match(entry.get("name", ""))
        if match and "loss" in match["series"] and entry.get("value") is not None:
            curves.setdefault(match["series"], {}).setdefault(match["label"], []).append(
                (entry["step"], entry["value"])
            )
    return curves


def format_cell(cell: Cell | None) -> str:
    """Return ``1.23 ± 0.04``, with † where the distance is not judged."""
    return "–" if cell is None else _measure(cell.distance) + ("" if cell.judged else f" {UNJUDGED}")


def _pictures_section(evaluation: Evaluation, examples: Examples) -> Section | None:
    real, oracle = examples.patches.get("reference", {}), examples.patches.get("oracle", {})
    if not oracle:
        return None
    image = pictures.figure_2(real, oracle)
    caption = (
        "As in the paper's Figure 2: a real training patch and, to its right, the synthetic patch made from its "
        "condition, at each magnification. Noise and condition are new to each other; nothing is picked by hand."
    )
    return Section("Reference and synthetic", [Picture("reference_synthetic.png", pictures.png_bytes(image), caption)])


def _distance_section(evaluation: Evaluation) -> Section:
    name = evaluation.judge.distance_name
    items: list = [
        "; ".join(f"{ROWS[row]}: {ROW_MEANINGS[row]}" for row in evaluation.rows) + ".",
        distance_table(evaluation),
    ]
    lines = []
    for row in sorted(evaluation.rows, key=lambda row: row == "oracle"):  # the thick line on top
        cells = [(label, cell) for label in evaluation.magnifications if (cell := evaluation.cell(row, label))]
        lines.append(
            pictures.Line(
                ROWS[row],
                [label for label, _ in cells],
                [max(cell.distance.value, 1e-6) for _, cell in cells],
                [cell.distance.error for _, cell in cells],
                dashed=row in ("halves", "held_out", "reconstructions"),
                colour=ROW_COLOURS[row],
                width=2.6 if row == "oracle" else 1.4,
                hollow=[not cell.judged for _, cell in cells],
            )
        )
    chart = pictures.chart(
        lines, x_title="magnification", y_title=f"{name} (log)", categories=evaluation.magnifications, log_y=True
    )
    caption = f"{name} by magnification, ± one standard error; dashed: real patches; hollow: too few samples to judge."
    items.append(Picture("distances.png", chart, caption, is_chart=True))
    return Section("Distances", items)


def _claims_items(evaluation: Evaluation) -> list:
    if not evaluation.claims:
        return ["No pair of rows was evaluated that a claim could be made about."]
    return [
        "A difference counts where it exceeds two standard errors at every judged magnification (delete-a-group "
        "jackknife over patches, the same groups on both sides). What does not is reported as not separated.",
        Claims([(claim.verdict, claim.statement, claim.details) for claim in evaluation.claims]),
    ]


def _paired_section(evaluation: Evaluation) -> Section | None:
    if not {"oracle", "shuffled"} & set(evaluation.rows):
        return None
    items: list = [
        "Conditions that are exchanged among patients leave the set of synthetic patches as it was, so a distance of "
        "sets hardly sees it. Whether a patch follows its own condition shows beside its own reference.",
        paired_table(evaluation),
    ]
    if evaluation.fidelity:
        labels = sorted(
            {label for row in evaluation.fidelity.values() for label in row}, key=evaluation.magnifications.index
        )
        rows = [[ROWS[row], *(_measure(by.get(label)) for label in labels)] for row, by in evaluation.fidelity.items()]
        caption = (
            "Cosine of the conditioning encoder's embeddings of a patch and of its reference, mean ± standard error."
        )
        items.append(Table(["conditioning fidelity", *labels], rows, (), caption))
    return Section("Does a patch follow its condition?", items)


def _novel_section(examples: Examples) -> Section | None:
    if not (generated := examples.patches.get("generated")):
        return None
    image = pictures.columns_by_magnification(generated)
    caption = "Conditions drawn by the embedding diffusion model, then synthesised: patches without any reference."
    return Section("Novel patches", [Picture("novel.png", pictures.png_bytes(image), caption)])


def _further_section(evaluation: Evaluation) -> Section:
    labels, items = evaluation.magnifications, []
    for info in evaluation.descriptors[1:]:
        table = distance_table(evaluation, info.distance_name, with_paper=False)
        items.append(Folded(f"{info.distance_name} ({info.dim} numbers a patch)", table))
    cells = {row: [evaluation.cell(row, label) for label in labels] for row in evaluation.rows}
    if any(cell and cell.kid for by_label in cells.values() for cell in by_label):
        kid = [[ROWS[row], *(_measure(cell and cell.kid) for cell in by)] for row, by in cells.items()]
        items.append(Folded("kernel distance (KID's estimator)", Table(["kernel distance", *labels], kid)))
        both = [[ROWS[row], *(_share(cell) for cell in by)] for row, by in cells.items()]
        caption = "share of the row within the reals' 3-neighbour balls / share of reals within the row's"
        items.append(Folded("precision / recall", Table(["precision / recall", *labels], both, (), caption)))
    if evaluation.memorisation:
        rows = [
            [
                ROWS[row],
                *(
                    f"{m.median:.3g} / {m.held_out_median:.3g} ({m.closer_share:.0%})" if (m := by.get(label)) else "–"
                    for label in labels
                ),
            ]
            for row, by in evaluation.memorisation.items()
        ]
        caption = (
            "Median distance to the nearest of the evaluated training patches, synthetic / held-out real; in brackets "
            "the share of synthetic patches nearer than 95 of 100 held-out ones (5 % is what real patches give)."
        )
        items.append(Folded("memorisation", Table(["nearest training patch", *labels], rows, (), caption)))
    return Section("Further figures", items)


def _loss_section(curves: dict[str, dict[str, list[tuple[int, float]]]]) -> Section:
    items = []
    for series, by_label in curves.items():
        labels = sorted(by_label, key=lambda label: -float(label.rstrip("x")))
        lines = [
            pictures.Line(label, *zip(*by_label[label]), colour=pictures.ramp(i / max(1, len(labels) - 1)))
            for i, label in enumerate(labels)
        ]
        chart = pictures.chart(lines, x_title="step", y_title=series, log_y=True)
        name = f"curves_{re.sub(r'[^A-Za-z0-9]+', '_', series)}.png"
        items.append(Picture(name, chart, f"{series} by magnification over training.", is_chart=True))
    return Section("Loss by magnification", items)


def _facts_section(evaluation: Evaluation) -> Section:
    labels, items = evaluation.magnifications, []
    counts = evaluation.data.get("counts", {})
    rows = [[f"{split} patches", *(f"{counts[split].get(label, 0):,}" for label in labels)] for split in counts]
    judge = evaluation.judge.distance_name
    for row in evaluation.rows:
        cells = [evaluation.cell(row, label, judge) for label in labels]
        rows.append([f"n of {ROWS[row]!r}", *("–" if cell is None else f"{cell.num:,}" for cell in cells)])
    items.append(Table(["numbers", *labels], rows))
    facts = {**evaluation.settings, **{k: v for k, v in evaluation.data.items() if k != "counts"}}
    facts = {name: value for name, value in facts.items() if not isinstance(value, (dict, list))}
    facts |= {"hardware": evaluation.hardware, "date": evaluation.date}
    facts |= {f"seconds, {ROWS[row]}": f"{seconds:.1f}" for row, seconds in evaluation.seconds.items()}
    items.append(
        Table(["setting", "value"], [[name, str(value)] for name, value in facts.items() if value not in (None, "")])
    )
    items += [f"Note. {note}." for note in evaluation.notes]
    return Section("Numbers and settings", items)


def _caption(evaluation: Evaluation, name: str, with_paper: bool) -> str:
    info = next(one for one in evaluation.descriptors if one.distance_name == name)
    need = SAMPLES_PER_DIMENSION * info.dim
    text = (
        f"{name}: Fréchet distance over {info.dim} numbers a patch, against one half of the real training patches, ± "
        f"one standard error. {UNJUDGED} fewer than {need} patches on a side ({SAMPLES_PER_DIMENSION} a dimension): "
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


def _facts_line(evaluation: Evaluation) -> str:
    settings, data = evaluation.settings, evaluation.data
    parts = [
        f"data {data['name']}" if data.get("name") else "",
        f"step {evaluation.step:,}" if evaluation.step is not None else "",
        f"up to {settings.get('patches a magnification, at most', '?'):,} patches a row"
        if isinstance(settings.get("patches a magnification, at most"), int)
        else "",
        f"{settings['DDIM steps']} DDIM steps, guidance {settings['guidance scale']}"
        if "DDIM steps" in settings
        else "",
        f"seed {settings['seed']}" if "seed" in settings else "",
        evaluation.hardware,
        f"{sum(evaluation.seconds.values()):.0f} s" if evaluation.seconds else "",
        evaluation.date,
    ]
    return " · ".join(part for part in parts if part)


def _measure(measure: Measure | None) -> str:
    if measure is None:
        return "–"
    if measure.error is None:
        return _number(measure.value)
    return f"{_number(measure.value)} ± {_number(measure.error)}"


def _number(value: float) -> str:
    """Return a figure with two to four digits that matter."""
    if value == 0:
        return "0"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 0.1 else 4
    return f"{value:.{digits}f}"


def _optional(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _share(cell: Cell | None) -> str:
    return "–" if cell is None or cell.precision is None else f"{cell.precision:.2f} / {cell.recall:.2f}"
