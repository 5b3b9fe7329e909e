"""experiments/figures.py: the committed results draw the figures of docs/results.md, and a table agrees with them."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.helpers.experiments import experiment_script
from zoomldm.config import PROJECT_ROOT
from zoomldm.errors import UserError

figures = experiment_script("figures.py")
MEASURED = [name for name in figures.FIGURES if (figures.EXPERIMENTS / name / "results.json").is_file()]


@pytest.mark.parametrize("name", MEASURED)
def test_committed_results_make_the_committed_figure(name, tmp_path):
    drawn = np.asarray(Image.open(figures.drawn(name, docs=tmp_path)).convert("L"))
    assert (drawn < 128).mean() > 0.01, "something is drawn"
    committed = Image.open(PROJECT_ROOT / "docs" / f"{name}.png")
    assert committed.text[figures.DRAWN_OF] == figures.Experiment(name).sha256, f"python experiments/figures.py {name}"
    assert abs(committed.width - drawn.shape[1]) <= 2, "fonts may differ, panels may not"


def test_another_result_is_another_figure_and_the_same_the_same(tmp_path):
    shutil.copytree(figures.EXPERIMENTS / "curriculum", tmp_path / "curriculum")
    first = figures.drawn("curriculum", tmp_path, tmp_path).read_bytes()
    assert figures.drawn("curriculum", tmp_path, tmp_path).read_bytes() == first
    path = tmp_path / "curriculum" / "results.json"
    content = json.loads(path.read_text())
    content["runs"]["uniform"]["rows"]["oracle"]["unseen.frechet"]["value"][0] = None
    path.write_text(json.dumps(content))
    assert figures.drawn("curriculum", tmp_path, tmp_path).read_bytes() != first


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match=r"curriculum/results.json: expected the comparison.json of src/compare.py"):
        figures.drawn("curriculum", tmp_path, tmp_path)
    shutil.copytree(figures.EXPERIMENTS / "curriculum", tmp_path / "curriculum")
    path = tmp_path / "curriculum" / "results.json"
    content = json.loads(path.read_text())
    del content["runs"]["tempered"]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"results.json: has no tempered, oracle, unseen.frechet"):
        figures.drawn("curriculum", tmp_path, tmp_path)
    path.write_text(json.dumps({key: content[key] for key in content if key != "magnifications"}))
    with pytest.raises(UserError, match=r"expected the comparison\.json"):
        figures.drawn("curriculum", tmp_path, tmp_path)
    path.write_text("[]")
    with pytest.raises(UserError, match=r"expected the comparison\.json"):
        figures.drawn("curriculum", tmp_path, tmp_path)
    with pytest.raises(UserError, match="nothing: expected one of curriculum, "):
        figures.main(["nothing"])


HELD_OUT, PLAIN = figures.HELD_OUT, figures.EDM.format("plain")
WITHIN = "difference, within a run"
TABLES = {
    "curriculum": {
        f"`{name}`": (name, "oracle", HELD_OUT)
        for name in ("uniform", "tempered", "proportional", "coarse_to_fine", "fine_to_coarse")
    },
    "table1": {
        "`unified`": ("unified", "oracle", HELD_OUT),
        "`single`, as much compute": ("single compute", "oracle", HELD_OUT),
        "`samples`, as many samples": ("single samples", "oracle", HELD_OUT),
        "unified - single": ("difference, to held-out patients", "unified - single compute"),
        "unified - samples": ("difference, to held-out patients", "unified - single samples"),
        "to training patches: `unified`": ("unified", "oracle", figures.DISTANCE),
        "patch by patch: unified - single": ("difference, each patch to its own reference", "unified - single compute"),
    },
    "conditioning": {
        "pool - film (of its machine)": ("difference", "pool - film"),
        "vit - film (likewise)": ("difference", "vit - film"),
    },
    "edm": {
        "oracle conditions": (PLAIN, "real_conditions", figures.DISTANCE),
        "`plain`": (PLAIN, "oracle", figures.DISTANCE),
        "`v`": (figures.EDM.format("v"), "oracle", figures.DISTANCE),
        "**`cosine`**": (figures.EDM.format("cosine"), "oracle", figures.DISTANCE),
        **{f"`{name}`": (figures.EDM.format(name), "oracle", figures.DISTANCE) for name in ("wide", "deep", "zooming")},
    },
    "encoder": {
        "`stats`": ("pyramid", "oracle", figures.DISTANCE),
        "`mae_tiny`": ("pyramid_mae_tiny", "oracle", figures.DISTANCE),
        "`random`": ("pyramid_random", "oracle", figures.DISTANCE),
        "stats - random": ("difference", "pyramid - pyramid_random"),
    },
    "guidance": {
        f"scale {scale:g}{' (the default)' * (scale == 1.75)}": (figures.FILM, row, figures.DISTANCE)
        for scale, row in figures.SCALES.items()
    },
    "solver": {
        f"{solver}, {steps} steps{' (the default)' * (row == 'ddim_20')}": (figures.FILM, row, figures.DISTANCE)
        for solver, rows in figures.SOLVERS.items()
        for steps, row in rows.items()
    }
    | {
        "DDIM 50 - DDIM 20": (WITHIN, f"{figures.FILM}, ddim, 50 steps - oracle conditions"),
        "DPM-Solver++ 10 - DDIM 20": (WITHIN, f"{figures.FILM}, dpmpp, 10 steps - oracle conditions"),
    },
    "solver/results_five_steps": {
        "DPM-Solver++ 5 - DDIM 5": (WITHIN, f"{figures.FILM}, dpmpp, 5 steps - ddim, 5 steps"),
    },
}
"""By experiment: a row's name in its README -> a run's row and measure, or the kind of difference and its pair."""


@pytest.mark.parametrize("name", TABLES)
def test_the_readmes_table_is_of_the_results(name):
    experiment, _, part = name.partition("/")
    text = (figures.EXPERIMENTS / experiment / "README.md").read_text()
    content = json.loads((figures.EXPERIMENTS / experiment / f"{part or 'results'}.json").read_text())
    for title, (first, *rest) in TABLES[name].items():
        (row, *_) = re.findall(rf"^\| {re.escape(title)} \|(.*)\|$", text, re.MULTILINE)
        if is_difference := len(rest) == 1:
            found = _gap(content["differences"][first], *rest)
        else:
            of_row, measure = rest
            found = content["runs"][first]["rows"][of_row][measure]
        said = [_said(*one, starred=is_difference) for one in zip(found["value"], found["error"])]
        assert [cell.strip() for cell in row.split("|")][: len(said)] == said, title


def _gap(gaps, pair):
    """Return a difference, also where it is kept the other way round."""
    if pair in gaps:
        return gaps[pair]
    found = gaps[" - ".join(reversed(pair.split(" - ")))]
    return {"value": [value and -value for value in found["value"]], "error": found["error"]}


def _said(value, error, *, starred):
    if value is None:
        return "–"
    star = " *" if starred and abs(value) > 2 * error else ""
    return f"{value:.1f} ± {error:.1f}{star}".replace("-0.0 ±", "0.0 ±")
