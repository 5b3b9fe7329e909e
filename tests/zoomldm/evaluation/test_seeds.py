"""Runs that differ in their seed alone are averaged; what may not be is named and stays what it is."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from tests.zoomldm.evaluation.test_claims import LABELS, made
from zoomldm.evaluation.errors import Measure, averaged, difference
from zoomldm.evaluation.report.compare import compare
from zoomldm.evaluation.report.differences import best_of, gap_between, tables_of_differences
from zoomldm.evaluation.result import DescriptorInfo, MetricInfo
from zoomldm.evaluation.seeds import Entrant, averaged_over_seeds

FACTS = {"git_revision": "abc", "git_dirty": False}


def entrant(name, value, *, seed=0, cond="film", fault=None, facts=FACTS, **of):
    config = {"seed": seed, "cond": {"name": cond}, "fabric": {"devices": seed}, "run_name": name}
    return Entrant(evaluation=made(name, oracle=value, **of), config=config, described=facts, fault=fault)


def seeds(*values, **of):
    return [entrant(f"{of.get('cond', 'film')}-{i}", value, seed=i, **of) for i, value in enumerate(values)]


def test_an_average_knows_patients_and_seeds():
    found = averaged([Measure(value, 0.3, tuple(value + d for d in (-0.1, 0, 0.1))) for value in (1.0, 2.0, 3.0)])
    assert found.value == pytest.approx(2.0)
    assert found.seed_error == pytest.approx(np.std([1, 2, 3], ddof=1) / 3**0.5)
    assert found.replicates == pytest.approx((1.9, 2.0, 2.1))
    assert found.error == pytest.approx(np.hypot(found.seed_error, 2**0.5 * np.std([0.1, 0, -0.1])))
    gap = difference(found, found)
    assert gap.value == 0
    assert gap.error == pytest.approx(found.seed_error * 2**0.5), "what patients have in common falls out, seeds do not"


def test_seeds_become_one_row_and_conditions_stay_two():
    found, notes = averaged_over_seeds([*seeds(1.0, 2.0, 3.0), *seeds(4.0, 4.0, cond="cnn")])
    assert [one.cell("oracle", "5x").distance.value for one in found] == pytest.approx([2.0, 4.0])
    assert found[0].cell("oracle", "5x").distance.error > found[1].cell("oracle", "5x").distance.error
    assert found[0].cell("oracle", "5x").paired.value == pytest.approx(4.0)
    assert notes == ["averaged over 3 seeds: film-0, film-1, film-2", "averaged over 2 seeds: cnn-0, cnn-1"]


def test_a_row_that_not_all_seeds_have_is_named_and_left_out():
    runs = [entrant("film-0", 1.0, seed=0, untold=4.0), entrant("film-1", 2.0, seed=1)]
    runs[0].evaluation.metric_infos = [MetricInfo(name="unseen", title="held-out patients")]
    for group in (runs, runs[::-1]):
        (found,), notes = averaged_over_seeds(group)
        assert found.rows == ["oracle"]
        assert [*found.cells["fd_texture"]] == ["oracle"]
        title = runs[0].evaluation.row("untold").title
        names = ", ".join(one.name for one in group)
        assert notes[1] == f"left out, as not all of {names} have it: {title}, held-out patients"


def other_judge(one):
    info = DescriptorInfo(name="x", distance_name="fd_texture", dim=20, fingerprint="other", conditions_model=False)
    one.evaluation.descriptors = [info]
    return one


def fewer(one):
    from dataclasses import replace

    cells = one.evaluation.cells["fd_texture"]["oracle"]
    one.evaluation.cells["fd_texture"]["oracle"] = {label: replace(cell, num=40) for label, cell in cells.items()}
    return one


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (entrant("b", 2.0, seed=1, fault="its autoencoder is gone"), "a parent is missing or has changed"),
        (entrant("b", 2.0, seed=1, facts=FACTS | {"git_revision": "def"}), "mixed revisions: abc, def"),
        (entrant("b", 2.0, seed=1, facts=FACTS | {"git_dirty": True}), "mixed revisions: abc, abc with changes"),
        (other_judge(entrant("b", 2.0, seed=1)), "mixed judges"),
        (fewer(entrant("b", 2.0, seed=1)), "unequal n: 90, 40"),
        (entrant("b", 2.0, seed=1, ids="others"), "other real patches"),
    ],
)
def test_what_may_not_be_averaged_is_named(other, reason):
    found, notes = averaged_over_seeds([entrant("a", 1.0), other])
    assert [one.cell("oracle", "5x").distance.value for one in found] == [1.0, 2.0]
    assert any(re.search(f"not averaged: a, b: {reason}", note) for note in notes), notes
    if other.fault:
        assert "b: its autoencoder is gone" in notes


def test_rows_of_other_revisions_stand_side_by_side_and_it_is_said():
    mixed = [entrant("a", 1.0), entrant("b", 2.0, cond="cnn", facts={"git_revision": "def"})]
    found, notes = averaged_over_seeds(mixed)
    assert len(found) == 2
    assert notes == ["mixed revisions: abc (a); def (b)"]


def test_the_best_and_the_differences_beyond_their_errors():
    runs = {"film": made("a", oracle=[1, 1, 1, 1]), "cnn": made("b", oracle=[2, 1.01, 1, 1], unjudged=["2.5x"])}
    table, of_pairs = tables_of_differences(runs, LABELS)
    ((name, *gaps),) = table.rows
    assert name == "film - cnn"
    assert [gap.endswith("*") for gap in gaps] == [True, True, False, False], "the same wobble leaves no error"
    assert gaps[3] == "–"
    assert of_pairs.head[0] == "difference, each patch to its own reference"
    assert of_pairs.rows[0][1].startswith("-2.00")
    assert gap_between(runs["film"], runs["cnn"], "20x").value == -1
    said = best_of(runs, LABELS)
    assert said[0].startswith("best at 20x: film 1.00")
    assert said[0].endswith("then cnn (beyond the error)")
    assert said[2].endswith("(not separated)")
    assert len(said) == 3
    assert tables_of_differences({"film": runs["film"]}, LABELS) == []


def test_rows_of_a_run_and_distances_to_held_out_patients_are_set_apart_too():
    runs = {"film": made("a", oracle=2.0, generated=3.0, untrained=9.0), "cnn": made("b", oracle=2.0)}
    for name, value in {"film": 1.0, "cnn": 4.0}.items():
        for cell in runs[name].cells["fd_texture"]["oracle"].values():
            cell.measures["unseen.frechet"] = Measure(value, 0.1, tuple(value + d for d in (-0.1, 0, 0.1)))
    tables = {table.head[0]: table for table in tables_of_differences(runs, LABELS)}
    ((name, *gaps),) = tables["difference, to held-out patients"].rows
    assert name == "film - cnn"
    assert all(gap.startswith("-3.00") and gap.endswith("*") for gap in gaps)
    ((name, *gaps),) = tables["difference, within a run"].rows
    assert name == "film, generated conditions - oracle conditions"
    assert all(gap.startswith("1.00") for gap in gaps), "above the main row; untrained is no setting"


def test_rows_of_a_run_are_set_against_the_one_that_is_named(tmp_path):
    runs = {"film": made("a", oracle=1.0, untold=4.0, wrong_magnification=3.0), "mag": made("b", oracle=2.0)}
    tables = {table.head[0]: table for table in tables_of_differences(runs, LABELS, "untold")}
    within = {name: gaps for name, *gaps in tables["difference, within a run"].rows}
    told, wrong = (runs["film"].row(name).title for name in ("oracle", "wrong_magnification"))
    untold = runs["film"].row("untold").title
    assert [*within] == [f"film, {told} - {untold}", f"film, {wrong} - {untold}"], "mag has no such row"
    assert within[f"film, {wrong} - {untold}"][0].startswith("-1.00")
    compare([*runs.items()], against="untold").write(tmp_path, title="Two")
    found = json.loads((tmp_path / "comparison.json").read_text())["differences"]["difference, within a run"]
    assert found[f"film, {told} - {untold}"]["value"] == [-3.0] * len(LABELS)


def test_differences_of_other_data_sets_are_paired_where_the_patches_are_the_same():
    runs = {"stats": made("a", oracle=1.0), "random": made("b", oracle=1.05, ids="others")}
    apart = gap_between(runs["stats"], runs["random"], "5x")
    assert apart.error == pytest.approx(0.1 * 2**0.5)
    for run in runs.values():
        run.reference_patches = {"5x": "the same", "20x": ""}
    assert gap_between(runs["stats"], runs["random"], "5x").error == pytest.approx(0, abs=1e-9)
    assert gap_between(runs["stats"], runs["random"], "20x").error == apart.error


def test_rows_of_the_same_seeds_differ_seed_by_seed():
    runs = [entrant(f"film-{i}", i + 1.0, seed=i, generated=i + 2.0) for i in range(3)]
    (found,), _ = averaged_over_seeds(runs)
    tables = {table.head[0]: table for table in tables_of_differences({"film": found}, LABELS)}
    ((_, gap, *_),) = tables["difference, within a run"].rows
    assert gap.startswith("1.00 ±")
    assert float(gap.split()[2]) < 1e-6, "what patients and seeds have in common falls out"
    other = replace(found, run_name="other")
    assert gap_between(found, other, "5x").error == pytest.approx(2**0.5 / 3**0.5), "of two runs, seeds are their own"


def test_held_out_patients_judge_by_kid_where_patches_are_few():
    runs = {"film": made("a", oracle=2.0), "cnn": made("b", oracle=2.0)}
    for run in runs.values():
        for label, cell in run.cells["fd_texture"]["oracle"].items():
            cell.measures.update({"unseen.frechet": Measure(5.0, 0.1), "unseen.kid": Measure(1.0, 0.1)})
            if run is runs["film"]:
                cell.measures["unseen.kid"] = Measure(3.0, 0.1)
            if label == "20x":
                run.cells["fd_texture"]["oracle"][label] = replace(cell, num=70)
    tables = {table.head[0]: table for table in tables_of_differences(runs, LABELS)}
    ((_, *gaps),) = tables["difference, to held-out patients"].rows
    assert gaps[0].startswith("2.00")
    assert gaps[1].startswith("0 ±")


def test_figures_are_json_by_run_row_and_measure(tmp_path):
    runs = [("film", made("a", oracle=1.23456789, halves=0.5)), ("mag", made("b", ["20x", "5x"], oracle=2.0))]
    compare(runs, notes=["said"], revisions={"a": "abc"}).write(tmp_path, title="Two")
    text = (tmp_path / "comparison.json").read_text()
    found = json.loads(text)
    assert found["notes"] == ["said"]
    assert found["runs"]["film"]["revision"] == "abc"
    assert found["runs"]["film"]["rows"]["oracle"]["distance"] == {"value": [1.2346] * 4, "error": [0.1] * 4}
    assert found["runs"]["mag"]["rows"]["oracle"]["paired"]["value"] == [4.0, None, 4.0, None]
    assert found["runs"]["mag"]["rows"]["oracle"]["judged_by"] == ["frechet", None, "frechet", None]
    assert found["differences"]["difference"]["film - mag"]["value"] == [-0.76543, None, -0.76543, None]
    assert '"value": [ 1.2346, 1.2346, 1.2346, 1.2346 ]' in text, "a list of numbers is a line"


@pytest.mark.parametrize("settings", [{"guidance scale": 3.0}, {"sampling steps": 50}, {"guidance interval": [0.2, 1]}])
def test_runs_that_were_sampled_otherwise_are_not_averaged(settings):
    first, other = entrant("a", 1.0), entrant("b", 2.0, seed=1)
    first.evaluation.settings = {"guidance scale": 1.75, "sampling steps": 20, "seed": 0, "EDM model": "x"}
    other.evaluation.settings = first.evaluation.settings | {"seed": 1, "EDM model": "y", "EDM guidance scale": 1.0}
    assert len(averaged_over_seeds([first, other])[0]) == 1, "seeds and EDMs are a run's own"
    other.evaluation.settings |= settings
    found, notes = averaged_over_seeds([first, other])
    assert len(found) == 2
    ((key, value),) = settings.items()
    assert f"other settings: {key} {first.evaluation.settings.get(key, 'none')}, {key} {value}" in notes[0]
    other = replace(other, config=other.config | {"cond": {"name": "cnn"}})
    assert (
        f"other settings: {key} {first.evaluation.settings.get(key, 'none')} (a); {key} {value} (b)"
        in averaged_over_seeds([first, other])[1]
    )


def test_a_comparison_shows_notes_best_and_differences(tmp_path):
    runs = [("film", made("a", oracle=1.0, halves=0.5)), ("mag", made("b", oracle=2.0))]
    found = compare(runs, notes=["mixed revisions: abc (a); def (b)"])
    assert {"film - mag", "best at 20x: film", "mixed revisions: abc"} <= {
        word for word in ("film - mag", "best at 20x: film", "mixed revisions: abc") if word in found.to_text()
    }
    of_kid = MetricInfo(name="kid", title="kernel distance")
    for run in found.runs.values():
        run.metric_infos = [of_kid]
        run.cells["fd_texture"]["oracle"]["5x"].measures["kid"] = Measure(0.25, 0.01)
    found.write(tmp_path, title="Two")
    (line,) = [one for one in (tmp_path / "comparison.md").read_text().splitlines() if "0.25 ± 0.0100" in one][:1]
    assert line.startswith("| film")
    assert "mixed revisions: abc" in (tmp_path / "comparison.md").read_text()
    assert found.metrics()["fd_texture/20x/mag"] == 2.0
