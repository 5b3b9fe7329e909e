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


def test_the_readmes_table_is_of_the_results():
    experiment = figures.Experiment("curriculum")
    text = (figures.EXPERIMENTS / "curriculum" / "README.md").read_text()
    for name in ("uniform", "tempered", "coarse_to_fine", "fine_to_coarse"):
        (row, *_) = re.findall(rf"^\| `{name}`[^|]*\|(.*)\|$", text, re.MULTILINE)
        value, error, _ = experiment.figures(name, "oracle", figures.HELD_OUT)
        assert row.split("|") == [f" {a:.1f} ± {b:.1f} " for a, b in zip(value, error)]
