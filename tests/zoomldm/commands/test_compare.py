"""Runs that are named, or whose folders a shell gives, are set side by side; what is wrong with them is said."""

import json
import re
import shutil

import pytest
import yaml

from tests.helpers.toy_runs import compose, make_toy_edm, make_toy_runs
from zoomldm import composing
from zoomldm.commands import compare, evaluate
from zoomldm.errors import ConfigError, UserError
from zoomldm.runs.checkpoint import newest_model
from zoomldm.stages.base import Judged


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Make a ZoomLDM run that is evaluated, and the same again under another seed."""
    root = make_toy_runs(tmp_path_factory.mktemp("compare"))
    words = ["features=texture", "run_name=zoom", "evaluation.num_in_sweep=12", "data.ladder.num_rungs=2"]
    evaluate.run_after_training(compose("train", root, *words), Judged(zoomldm="zoom"))
    shutil.copytree(root / "runs" / "zoom", root / "runs" / "zoom-seed=1")
    path = root / "runs" / "zoom-seed=1" / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"seed": 1}))
    stored = root / "runs" / "zoom-seed=1" / "evaluation" / "fd_texture.json"
    stored.write_text(stored.read_text().replace('"zoom"', '"zoom-seed=1"'))
    return root


def composed(root, *words):
    return composing.compose_jobs("compare", [f"paths.root={root}", *words])[0]


def test_folders_of_a_shell_are_runs(root, monkeypatch):
    monkeypatch.chdir(root)
    words = compare.with_folders(["runs/zoom", "distance=fd_texture", "runs/zoom-seed=1"])
    assert words == ["distance=fd_texture", 'runs=["zoom","zoom-seed=1"]', f"paths.runs={root / 'runs'}"]
    cfg = composed(root, *words)
    compare.check(cfg)
    assert list(cfg.runs) == ["zoom", "zoom-seed=1"]
    assert compare.with_folders(["runs=[a,b]"]) == ["runs=[a,b]"]
    many = f"runs=[{','.join(map(str, range(200)))}]"  # longer than a file's name may be
    assert compare.with_folders([many]) == [many]
    shutil.copytree("runs/zoom", "elsewhere/zoom", dirs_exist_ok=True)
    with pytest.raises(ConfigError, match="expected runs of one folder"):
        compare.with_folders(["runs/zoom", "elsewhere/zoom"])


def test_fewer_than_two_or_unknown_runs_are_refused(root):
    for words in ([], ["runs=[zoom]"], ["runs=[zoom,zoom]"]):
        with pytest.raises(ConfigError, match="two evaluated runs or more"):
            compare.check(composed(root, *words))
    with pytest.raises(UserError, match=r"run zom: not in .* did you mean 'zoom'"):
        compare.check(composed(root, "runs=[zoom,zom]"))


def test_rows_are_set_against_one_that_runs_have(root):
    both = 'runs=["zoom","zoom-seed=1"]'
    cfg = composed(root, both, "against=halves")
    compare.check(cfg)
    compare.run(cfg)
    compare.run(composed(root, both))
    found = [json.loads(path.read_text())["against"] for path in (root / "runs/comparisons").rglob("comparison.json")]
    assert sorted(found) == ["halves", "oracle"], "each in a folder of its own"
    with pytest.raises(UserError, match=r"against=ddim_7: no run has such a row; expected one of "):
        compare.run(composed(root, both, "against=ddim_7"))
    with pytest.raises(UserError, match=r"against=half: no run has such a row; did you mean 'halves'"):
        compare.run(composed(root, both, "against=half"))


def test_seeds_are_averaged_and_changed_parents_are_named(root, capsys):
    cfg = composed(root, 'runs=["zoom","zoom-seed=1"]', f"folder={root / 'one'}")
    compare.run(cfg)
    assert "averaged over 2 seeds: zoom, zoom-seed=1" in capsys.readouterr().out
    assert (root / "one" / "comparison.html").is_file()
    (path,) = (root / "runs" / "zoom-seed=1").glob("checkpoints/step-*/checkpoint.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"parents": {"data": "0" * 64}}))
    compare.run(cfg)
    said = capsys.readouterr().out
    assert "not averaged: zoom, zoom-seed=1: a parent is missing or has changed" in said
    assert "zoom-seed=1: missing or other parents: run zoom-seed=1 was made with another state of its data set" in said


def keep_zoom(root, edm, child, folder):
    """Write what evaluate.py keeps of the zoom of an EDM of the run ``zoom``."""
    errors = {"20x": {"child": child, "wrong quadrant": 1.0, "plain": 0.5, "another patch's": 1.0}}
    identity = {"edm": newest_model(root / "runs" / edm).model_sha256, "data": "d", "seed": 0, "num": 48}
    content = {"by_rung": errors, "drift": {"10x": [child]}, "num": 48}
    folder.mkdir(exist_ok=True)
    settings = {"plain": "guidance 1.75", "zooming": "guidance 1"}
    (folder / "zoom.json").write_text(json.dumps({"identity": identity | settings, "errors": content}))


def test_zooms_of_edms_are_set_side_by_side_by_seeds(root, capsys):
    zoom = root / "runs" / "zoom"
    for seed, edm in enumerate(("a", "a-seed=1", "b", "c")):
        make_toy_edm(root, f"'{edm}'", (), f"seed={seed % 2}", f"model.depth={1 + (edm == 'b')}", model="edm_zoom_tiny")
    cfg = composed(root, 'runs=["a","a-seed=1","b","c"]', f"folder={root / 'zooms'}")
    compare.check(cfg)
    with pytest.raises(UserError, match=r"left out: a; `python src/evaluate.py \"run='zoom'\" \"edm='a'\""):
        compare.run(cfg)
    for edm, child, folder in (
        ("a", 0.2, zoom),
        ("a-seed=1", 0.4, zoom / "with-a-seed=1"),
        ("b", 2.0, zoom / "with-b"),
    ):
        keep_zoom(root, edm, child, folder)
    compare.run(cfg)
    said = capsys.readouterr().out
    assert re.search(r"\| a +\| +0\.30 ± 0\.10 \|", said)
    assert "averaged over 2 seeds: a, a-seed=1" in said
    assert "its zoom has not been judged, so left out: c" in said
    assert (root / "zooms" / "zooms.html").is_file()
    keep_zoom(root, "b", 0.1, zoom)  # by a newer EDM of the plain name
    compare.run(cfg)
    assert "left out: a; " in capsys.readouterr().out
    keep_zoom(root, "a", 0.2, root / "runs" / "other")  # evaluated with a ZoomLDM that took the conditioner over
    compare.run(cfg)
    assert "left out: a; " not in capsys.readouterr().out


def test_zooms_and_evaluations_are_not_mixed(root):
    with pytest.raises(UserError, match="run zoom is a run of zoomldm; expected one of edm"):
        compare.check(composed(root, "runs=[edm,zoom]"))


def test_edms_are_set_side_by_side_by_the_patches_of_their_conditions(root, capsys):
    for seed, edm in enumerate(("plain", "plain-seed=1", "deep", "unjudged")):
        make_toy_edm(root, f"'{edm}'", (), f"seed={seed % 2}", f"model.depth={1 + (edm == 'deep')}")
    words = [f"paths.root={root}", "run=zoom", "rows=[halves,oracle,generated]", "features=texture", "sampling.steps=2"]
    cfg = composed(root, 'runs=["plain","plain-seed=1","deep","unjudged"]', f"folder={root / 'edms'}")
    with pytest.raises(ConfigError, match=r"against=ddim_5: EDMs are compared by generated conditions alone"):
        compare.check(composed(root, 'runs=["plain","deep"]', "against=ddim_5"))
    with pytest.raises(UserError, match=r"not evaluated, so left out: plain; `python src/evaluate.py \"run='zoom'\""):
        compare.run(cfg)
    for edm in ("plain", "plain-seed=1", "deep"):
        evaluate.run(composing.compose_jobs("evaluate", [*words, "num_per_magnification=12", f"edm='{edm}'"])[0])
    capsys.readouterr()
    compare.run(cfg)
    said = capsys.readouterr().out
    assert re.search(r"\| plain, generated conditions +\|", said)
    assert re.search(r"\| deep, oracle conditions +\|", said)
    assert "averaged over 2 seeds: plain, plain-seed=1" in said
    assert "not evaluated, so left out: unjudged" in said
    figures = json.loads((root / "edms" / "comparison.json").read_text())
    kept = json.loads((root / "runs" / "zoom" / "with-deep" / "evaluation" / "fd_texture.json").read_text())
    cells = kept["cells"]["fd_texture"]["generated"]
    assert kept["settings"]["EDM guidance scale"] == 1.0
    found = figures["runs"]["deep"]["rows"]["oracle"]["distance"]["value"]
    assert found == pytest.approx([cells[label]["distance"]["value"] for label in figures["magnifications"]], rel=1e-4)
    path = root / "runs" / "zoom" / "with-plain-seed=1" / "evaluation" / "fd_texture.json"
    kept = json.loads(path.read_text())
    others = {key: value for key, value in kept["settings"].items() if not key.startswith("EDM")}
    path.write_text(json.dumps(kept | {"settings": others}))  # as evaluations were before they said so
    compare.run(cfg)
    said = capsys.readouterr().out
    assert "not averaged: plain, plain-seed=1: other settings: EDM guidance scale 1.0, EDM guidance scale not" in said
    assert "plain-seed=1: judged before evaluations said which checkpoint drew" in said
    shutil.rmtree(root / "runs" / "unjudged" / "checkpoints")
    (root / "runs" / "another" / "evaluation").mkdir(parents=True)
    (root / "runs" / "another" / "evaluation" / "fd_texture.json").write_text("{")  # which does not matter here
    compare.run(cfg)
    assert re.search(r"left out: .*unjudged: no checkpoint yet", capsys.readouterr().out)
    shutil.rmtree(root / "runs" / "another")
    shutil.rmtree(root / "runs" / "deep")
    make_toy_edm(root, "deep", (), "model.depth=2", "seed=5")  # trained anew: what was judged is of another
    compare.run(cfg)
    assert "not evaluated, so left out: deep" in capsys.readouterr().out
