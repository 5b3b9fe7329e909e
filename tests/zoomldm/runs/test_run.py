"""A run's identity is its name and its configuration."""

import pytest

from zoomldm.errors import ConfigError, UserError
from zoomldm.runs.belonging import find_edm
from zoomldm.runs.identity import differing_keys, flattened
from zoomldm.runs.run import Run, find_run, find_runs, newest

CONFIG = {"seed": 0, "train": {"steps": 10, "log_every": 2, "validation_samples": 8}, "fabric": {"devices": 1}, "optim": {"betas": [0.9, 0.99]}}


def opened(root, name="a", config=CONFIG, kind="zoomldm", **options) -> Run:
    return Run.open(root, name, config, kind=kind, **options)


def changed(**sections) -> dict:
    return CONFIG | {
        name: CONFIG[name] | value if isinstance(value, dict) else value for name, value in sections.items()
    }


def test_a_run_describes_itself(tmp_path):
    run = opened(tmp_path, manifest_sha256="abc")
    described = run.described()
    assert run.config == CONFIG
    assert (run.name, run.kind, described["manifest_sha256"]) == ("a", "zoomldm", "abc")
    assert described["hardware"]["cpus"] >= 1
    assert {"git_revision", "git_dirty", "code_version", "command"} <= described.keys()
    assert not run.finished


def test_the_same_configuration_goes_on(tmp_path):
    first = opened(tmp_path)
    first.update(status="finished", step=7, mlflow_run_id="m")
    again = opened(tmp_path, config=changed(train={"steps": 99}, fabric={"devices": 8})).described()
    assert (again["step"], again["status"], again["mlflow_run_id"]) == (7, "finished", "m")
    assert again["created"] == first.described()["created"]


def test_another_configuration_is_refused_with_the_differing_keys(tmp_path):
    opened(tmp_path)
    with pytest.raises(ConfigError) as caught:
        opened(tmp_path, config=changed(seed=1, train={"validation_samples": 9, "log_every": 3, "steps": 99}))
    message = str(caught.value)
    assert "seed: 0 in the run, 1 now" in message
    assert "train.validation_samples: 8 in the run, 9 now" in message
    assert "train.log_every" not in message
    assert "train.steps" not in message
    assert "fresh=true" in message
    assert Run(tmp_path / "a").config == CONFIG


def test_fresh_starts_anew(tmp_path):
    run = opened(tmp_path)
    run.log(3, {"loss": 1.0})
    again = opened(tmp_path, config=changed(seed=1), fresh=True)
    assert again.metrics.read() == []
    assert again.config["seed"] == 1


def test_another_data_set_under_the_same_name_is_refused(tmp_path):
    opened(tmp_path, manifest_sha256="abc")
    opened(tmp_path, manifest_sha256="abc")
    with pytest.raises(ConfigError, match="data set"):
        opened(tmp_path, manifest_sha256="def")


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert not opened(tmp_path).folder.exists()


def test_runs_are_found_by_kind_name_and_age(tmp_path):
    for name, kind in (("one", "zoomldm"), ("two", "edm"), ("three", "zoomldm")):
        opened(tmp_path, name, kind=kind)
    Run(tmp_path / "one").update(step=1)
    assert [run.name for run in find_runs(tmp_path, "zoomldm")] == ["three", "one"]
    assert newest(tmp_path, "zoomldm").name == "one"
    assert newest(tmp_path, "autoencoder") is None
    assert find_run(tmp_path, "edm").name == "two"
    with pytest.raises(UserError, match="did you mean 'three'"):
        find_run(tmp_path, "zoomldm", "thre")
    with pytest.raises(UserError, match="run of edm"):
        find_run(tmp_path, "zoomldm", "two")
    with pytest.raises(UserError, match="train one first"):
        find_run(tmp_path, "autoencoder")


def test_a_damaged_or_newer_description_is_said(tmp_path):
    run = opened(tmp_path)
    path = run.folder / "run.json"
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 9'))
    with pytest.raises(UserError, match="format version 9"):
        run.described()
    path.write_text("{")
    with pytest.raises(UserError, match=r"run\.json: cannot be read"):
        run.described()
    assert find_runs(tmp_path) == []


def test_status_follows_what_happens(tmp_path):
    run = opened(tmp_path)
    with run.in_progress():
        assert run.described()["status"] == "running"
    with pytest.raises(ZeroDivisionError), run.in_progress():
        raise ZeroDivisionError
    assert run.described()["status"] == "failed"


def test_differing_keys_compare_whole_sections_by_their_leaves():
    assert flattened({"a": {"b": 1, "c": {}}, "d": (1, 2)}) == {"a.b": 1, "a.c": {}, "d": [1, 2]}
    assert differing_keys({"a": {"b": 1}}, {"a": {"b": 1}}) == {}
    assert differing_keys({"a": {"b": 1}}, {"a": {"c": 1}}) == {"a.b": (1, "not set"), "a.c": ("not set", 1)}
    assert differing_keys({"fabric": {"devices": 1}, "fabrics": 1}, {"fabrics": 2}) == {"fabrics": (1, 2)}


def test_the_newest_run_is_the_newest_that_has_a_checkpoint(tmp_path):
    from zoomldm.runs.run import find_run

    for name in ("old", "new", "not yet"):
        run = Run.open(tmp_path, name, {}, kind="zoomldm")
        if name != "not yet":
            (run.folder / "checkpoints" / "step-00000010").mkdir(parents=True)
        run.update(step=len(name))
    assert find_run(tmp_path, "zoomldm").name == "new"
    assert find_run(tmp_path, "zoomldm", "not yet").name == "not yet"


def test_an_embedding_model_that_has_only_begun_is_not_taken(tmp_path):
    of_zoom = CONFIG | {"zoomldm": {"run": "zoom"}}
    done, _ = (opened(tmp_path, name, of_zoom, kind="edm") for name in ("done", "begun"))
    assert find_edm(tmp_path, "zoom", None).name == "begun"  # nothing is trained: the message names the last one
    (done.folder / "checkpoints" / "step-00000001").mkdir(parents=True)
    assert find_edm(tmp_path, "zoom", None).name == "done"
    assert find_edm(tmp_path, "zoom", "begun").name == "begun"


def test_an_embedding_model_that_is_told_labels_is_taken_where_it_is_named_or_no_other_is_trained(tmp_path):
    of_zoom = CONFIG | {"zoomldm": {"run": "zoom"}, "label": None}
    plain = opened(tmp_path, "plain", of_zoom, kind="edm")
    told = opened(tmp_path, "told", of_zoom | {"label": {"name": "tissue"}}, kind="edm")
    (told.folder / "checkpoints" / "step-00000001").mkdir(parents=True)
    assert find_edm(tmp_path, "zoom", None).name == "told"
    (plain.folder / "checkpoints" / "step-00000001").mkdir(parents=True)
    assert find_edm(tmp_path, "zoom", None).name == "plain"
    assert find_edm(tmp_path, "zoom", "told").name == "told"


def test_looking_at_a_run_leaves_what_is_noted_of_its_training(tmp_path, monkeypatch):
    run = Run.open(tmp_path, "a", {}, kind="edm")
    with run.in_progress():
        run.update(step=3)
    before = run.described()
    monkeypatch.setattr("sys.argv", ["another", "command"])
    assert Run.open(tmp_path, "a", {}, kind="edm").described() == before
    with run.in_progress():
        pass
    now = run.described()
    assert now["command"] == "another command"
    assert [session["command"] for session in now["sessions"]] == [before["command"], "another command"]
