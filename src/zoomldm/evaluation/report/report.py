"""The report of one evaluation: tables, claims, panels and curves, as HTML in one file and as Markdown."""

import os
import re
from pathlib import Path
from typing import Any

from zoomldm.evaluation.examples import Examples
from zoomldm.evaluation.extremes import FARTHEST, NEAREST, NUM, REFERENCE
from zoomldm.evaluation.report import pictures
from zoomldm.evaluation.report.page import Claims, Folded, Page, Picture, Section, Table
from zoomldm.evaluation.report.tables import distance_table, format_number, metric_table
from zoomldm.evaluation.result import FAR_ROW, FLOOR_ROW, FRECHET, KERNEL, MAIN_ROW, Cell, Evaluation
from zoomldm.sampling.pictures import png_bytes


def write_report(
    evaluation: Evaluation, examples: Examples, folder: str | os.PathLike, *, metrics: Path | None = None
) -> Path:
    """Write ``index.html`` (one file), ``report.md`` and its pictures into a folder; return the path of the HTML.

    Args:
        metrics: the run's ``metrics.jsonl``, for loss curves per magnification.
    """
    page = build_page(evaluation, examples, pictures.loss_curves(metrics))
    return page.write(Path(folder), markdown="report.md", html="index.html")


def build_page(evaluation: Evaluation, examples: Examples, curves: pictures.Curves) -> Page:
    """Lay the report out; ``curves``: series → magnification → [(step, loss)]."""
    sections = [
        _pictures_section(evaluation, examples),
        _extremes_section(evaluation, examples),
        _distance_section(evaluation),
        Section("What the figures show", _claims_items(evaluation)),
        _paired_section(evaluation),
        _novel_section(evaluation, examples),
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


def summary_sentence(evaluation: Evaluation) -> str:
    """Say in one sentence how far the synthetic patches are from real ones, at the ends of what is judged."""
    name, judged = evaluation.judge.distance_name, evaluation.judged(MAIN_ROW)
    if not judged:
        return f"No magnification has enough patches for {name} or KID to be judged; the figures are shown as they are."
    parts = []
    for label in dict.fromkeys((judged[0], judged[-1])):
        oracle, floor = evaluation.cell(MAIN_ROW, label), evaluation.cell(FLOOR_ROW, label)
        shown, estimator = (name, FRECHET) if oracle.judged_by == FRECHET else ("KID", KERNEL)
        beside = f", where real patches among themselves are at {_figure(floor, estimator)}" if floor else ""
        far = evaluation.cell(FAR_ROW, label)
        beside += f" and the untrained network at {_figure(far, estimator)}" if far else ""
        parts.append(f"at {label} {shown} is {_figure(oracle, estimator)}{beside}")
    sentence = "; ".join(parts)
    return f"With the conditions of training patches, {sentence}."


def _figure(cell: Cell, estimator: str) -> str:
    measure = cell.by(estimator)
    return format_number(measure.value) if measure is not None else "–"


def _pictures_section(evaluation: Evaluation, examples: Examples) -> Section | None:
    real, synthetic = examples.patches.get("reference", {}), examples.patches.get(MAIN_ROW, {})
    if not synthetic:
        return None
    shipped = examples.patches.get("shipped")
    shown = pictures.figure_2(real, synthetic, shipped=shipped)
    caption = (
        "As in the paper's Figure 2: a real training patch and, to its right, the synthetic patch made from its "
        "condition, at each magnification. Noise and condition are new to each other; nothing is picked by hand."
    )
    if shipped:
        caption += " The third is what the model that ships (model=reference) makes of it: hours of training."
    return Section("Reference and synthetic", [_picture("reference_synthetic.png", shown, caption)])


def _picture(name: str, shown: pictures.Panel, caption: str) -> Picture:
    return Picture(name, png_bytes(shown.whole), caption, parts=[png_bytes(part) for part in shown.parts])


def _extremes_section(evaluation: Evaluation, examples: Examples) -> Section | None:
    items = []
    for kind in (NEAREST, FARTHEST):
        real, synthetic = examples.patches.get(kind + REFERENCE, {}), examples.patches.get(kind, {})
        if synthetic:
            shown = pictures.figure_2(real, synthetic, num_rows=NUM)
            num, judge = evaluation.settings["patches a magnification, at most"], evaluation.judge.distance_name
            caption = f"Of at most {num} patches a magnification the {kind} to their reference, by {judge}'s vectors."
            items.append(_picture(f"{kind}.png", shown, caption))
    return Section("Nearest and farthest", items) if items else None


def _distance_section(evaluation: Evaluation) -> Section:
    name = evaluation.judge.distance_name
    meanings = "; ".join(f"{row.title}: {row.meaning}" for row in evaluation.row_infos) + "."
    caption = f"{name} by magnification, ± one standard error; dashed: real patches; hollow: too few to judge it."
    chart = Picture("distances.png", pictures.distance_chart(evaluation), caption, is_chart=True)
    items = [_protocol_sentence(evaluation), meanings, distance_table(evaluation), chart]
    if any(cell.judged_by == KERNEL for by in evaluation.cells[name].values() for cell in by.values()):
        items += [t for m in evaluation.metric_infos if m.name == KERNEL and (t := metric_table(evaluation, m))]
    return Section("Distances", [item for item in items if item])


def _protocol_sentence(evaluation: Evaluation) -> str:
    settings = evaluation.settings
    return f"Protocol {settings['protocol']}: {settings['protocol means']}." if "protocol" in settings else ""


def _left_out(evaluation: Evaluation) -> str:
    said = {facts["errors are a jackknife over"] for facts in evaluation.drawn.values()}
    if not said:
        return "over patches"
    if any("of the same" in one for one in said):
        return "over patches where there are fewer than 5 patients (see the notes), over patients elsewhere"
    return "over patients: all patches of a patient, real or made from their conditions, are left out together"


def _claims_items(evaluation: Evaluation) -> list:
    if not evaluation.claims:
        return ["No pair of rows was evaluated that a claim could be made about."]
    return [
        "A difference counts where it exceeds two standard errors at every judged magnification. Errors are a "
        f"jackknife {_left_out(evaluation)}, the same ones on both sides. What does not exceed them is not separated.",
        Claims([(claim.verdict, claim.statement, claim.details) for claim in evaluation.claims]),
    ]


def _paired_section(evaluation: Evaluation) -> Section | None:
    if not any(row.is_synthetic and row.is_paired for row in evaluation.row_infos):
        return None
    text = (
        "Conditions that are exchanged among patients leave the set of synthetic patches as it was, so a distance of "
        "sets hardly sees it. Whether a patch follows its own condition shows beside its own reference."
    )
    tables = [metric_table(evaluation, metric) for metric in evaluation.metric_infos if metric.section == "pairs"]
    return Section("Does a patch follow its condition?", [text, *(table for table in tables if table is not None)])


def _novel_section(evaluation: Evaluation, examples: Examples) -> Section:
    items = []
    for row in evaluation.row_infos:
        patches = examples.patches.get(row.name)
        if patches and row.is_synthetic and not row.is_paired and not row.is_control:
            shown = pictures.columns_by_magnification(patches)
            items.append(_picture(f"novel_{row.name}.png", shown, f"{row.title}: patches without any reference."))
    return Section("Novel patches", items)


def _further_section(evaluation: Evaluation) -> Section:
    items: list[Folded] = []
    for info in evaluation.descriptors[1:]:
        table = distance_table(evaluation, info.distance_name, with_paper=False)
        items.append(Folded(f"{info.distance_name} ({info.dim} numbers a patch)", table))
    for metric in evaluation.metric_infos:
        if metric.section != "pairs" and (table := metric_table(evaluation, metric)) is not None:
            items.append(Folded(metric.title, table))
    return Section("Further figures", items)


def _loss_section(curves: pictures.Curves) -> Section:
    items = []
    for series, by_label in curves.items():
        name = f"curves_{re.sub(r'[^A-Za-z0-9]+', '_', series)}.png"
        caption = f"{series} by magnification over training."
        items.append(Picture(name, pictures.loss_chart(series, by_label), caption, is_chart=True))
    return Section("Loss by magnification", items)


def _facts_section(evaluation: Evaluation) -> Section:
    labels, items = evaluation.magnifications, []
    counts = evaluation.data.get("counts", {})
    rows = [[f"{split} patches", *(f"{counts[split].get(label, 0):,}" for label in labels)] for split in counts]
    for row in evaluation.row_infos:
        cells = [evaluation.cell(row.name, label) for label in labels]
        rows.append([f"n of {row.title!r}", *("–" if cell is None else f"{cell.num:,}" for cell in cells)])
    for fact in dict.fromkeys(fact for facts in evaluation.drawn.values() for fact in facts):
        rows.append([fact, *(evaluation.drawn.get(label, {}).get(fact, "–") for label in labels)])
    items.append(Table(["numbers", *labels], rows))
    facts = {**evaluation.settings, **{k: v for k, v in evaluation.data.items() if k != "counts"}}
    facts = {name: value for name, value in facts.items() if not isinstance(value, (dict, list))}
    facts |= {"hardware": evaluation.hardware, "date": evaluation.date}
    facts |= {f"seconds, {evaluation.row(row).title}": f"{seconds:.1f}" for row, seconds in evaluation.seconds.items()}
    items.append(
        Table(["setting", "value"], [[name, str(value)] for name, value in facts.items() if value not in (None, "")])
    )
    items += [f"Note. {note}." for note in evaluation.notes]
    return Section("Numbers and settings", items)


def _facts_line(evaluation: Evaluation) -> str:
    settings, data = evaluation.settings, evaluation.data
    parts = [
        f"data {data['name']}" if data.get("name") else "",
        f"autoencoder {data['autoencoder']}" if data.get("autoencoder") else "",
        f"step {evaluation.step:,}" if evaluation.step is not None else "",
        f"protocol {settings['protocol']}" if "protocol" in settings else "",
        f"up to {settings.get('patches a magnification, at most', '?'):,} patches a row"
        if isinstance(settings.get("patches a magnification, at most"), int)
        else "",
        _sampling(settings),
        f"seed {settings['seed']}" if "seed" in settings else "",
        evaluation.hardware,
        f"{sum(evaluation.seconds.values()):.0f} s" if evaluation.seconds else "",
        evaluation.date,
    ]
    return " · ".join(part for part in parts if part)


def _sampling(settings: dict[str, Any]) -> str:
    if "sampling steps" not in settings:
        return ""
    solver = settings["solver"].partition("(")[0]
    scale, interval = settings["guidance scale"], settings.get("guidance interval")
    scale = " ".join(f"{one:g}" for one in scale) + " by magnification" if isinstance(scale, list) else scale
    within = "" if interval is None else " from {:g} to {:g} of the noise".format(*interval)
    return f"{settings['sampling steps']} steps of {solver}, guidance {scale}{within}"
