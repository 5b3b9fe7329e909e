"""MLflow gets what metrics.jsonl says, sooner or later, and training never waits for it."""

import json
import os
import re
import socket
import sys
import threading
import time

import pytest
from hydra.core.utils import JobReturn, JobStatus
from mlflow import MlflowClient
from omegaconf import OmegaConf

from zoomldm.commands.sweep import SweepCallback
from zoomldm.runs.run import Run
from zoomldm.tracking import mlflow as tracking
from zoomldm.tracking.__main__ import main
from zoomldm.tracking.base import Tracker
from zoomldm.tracking.mlflow import MLflowTracker
from zoomldm.tracking.mlflow_server import PARENT_VARIABLE, upload_run

TARGET = "zoomldm.tracking.mlflow.MLflowTracker"


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    """One database for all tests: making its tables takes most of their time."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def run(tmp_path, uri):
    config = {"seed": 3, "optim": {"lr": 1e-4}, "tracking": {"_target_": TARGET, "uri": uri, "experiment": "tests"}}
    return Run.open(tmp_path, "a", config, kind="zoomldm", manifest_sha256="abc")


@pytest.fixture(autouse=True)
def no_sweep(monkeypatch):
    monkeypatch.delenv(PARENT_VARIABLE, raising=False)


def upload(run, uri):
    return MLflowTracker(uri, "tests").upload(run)


def followed(run, uri):
    tracker = MLflowTracker(uri, "tests")
    tracker.follow(run)
    return tracker


def uploaded(run, uri):
    return MlflowClient(uri).get_run(run.described()["mlflow_run_id"])


def history(run, uri, name):
    points = MlflowClient(uri).get_metric_history(run.described()["mlflow_run_id"], name)
    return sorted((point.step, point.value) for point in points)


def test_a_run_carries_its_configuration_and_where_it_comes_from(run, uri):
    upload(run, uri)
    data = uploaded(run, uri).data
    assert data.params["seed"] == "3"
    assert data.params["optim.lr"] == "0.0001"
    assert data.tags["manifest_sha256"] == "abc"
    assert {"git_revision", "git_dirty", "hardware.cpus", "kind", "code_version"} <= data.tags.keys()


def test_uploading_again_adds_only_what_is_new(run, uri):
    for step in range(1, 2001):
        run.log(step, {"loss": 1 / step})
    assert upload(run, uri) == 2000
    first = run.described()["mlflow_run_id"]
    assert upload(run, uri) == 0
    run.log(2001, {"loss": 0.25})
    assert upload(run, uri) == 1
    assert run.described()["mlflow_run_id"] == first
    assert history(run, uri, "loss") == [(s, 1 / s) for s in range(1, 2001)] + [(2001, 0.25)]


def test_a_resumed_run_is_the_same_mlflow_run_without_doubled_points(run, uri):
    for step in (1, 2, 3):
        run.log(step, {"loss": step})
    upload(run, uri)
    run.metrics.truncate(1)  # back to a checkpoint; the same lines are written again
    for step in (2, 3, 4):
        run.log(step, {"loss": step})
        upload(run, uri)
    assert history(run, uri, "loss") == [(1, 1), (2, 2), (3, 3), (4, 4)]


def test_status_follows_the_run(run, uri):
    for status, expected in (
        ("running", "RUNNING"),
        ("finished", "FINISHED"),
        ("running", "RUNNING"),
        ("failed", "FAILED"),
    ):
        run.update(status=status)
        upload(run, uri)
        assert uploaded(run, uri).info.status == expected


def test_a_run_deleted_from_the_server_is_uploaded_anew(run, uri):
    run.log(1, {"loss": 1.0})
    upload(run, uri)
    MlflowClient(uri).delete_run(run.described()["mlflow_run_id"])
    assert upload(run, uri) == 1
    assert history(run, uri, "loss") == [(1, 1.0)]


def test_the_tracker_follows_in_the_background(run, uri, tmp_path):
    tracker = followed(run, uri)
    run.log(1, {"loss": 0.5})
    tracker.notify()
    (tmp_path / "table.md").write_text("table")
    tracker.artifact(tmp_path / "table.md")
    tracker.sync()
    assert history(run, uri, "loss") == [(1, 0.5)]
    run.update(status="finished")
    run.log(2, {"loss": 0.25})
    tracker.close()
    assert history(run, uri, "loss")[-1] == (2, 0.25)
    assert uploaded(run, uri).info.status == "FINISHED"
    files = MlflowClient(uri).list_artifacts(run.described()["mlflow_run_id"])
    assert [file.path for file in files] == ["table.md"]
    deadline = time.monotonic() + 5
    while any(thread.name == "mlflow" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("answers", [False, True], ids=["refused", "silent"])
def test_a_server_that_is_not_there_neither_stops_nor_hangs(run, uri, monkeypatch, capsys, answers):
    monkeypatch.setattr(tracking, "PATIENCE_S", 1.5)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if answers:
            server.listen()  # takes connections and says nothing
        start = time.monotonic()
        tracker = followed(run, f"http://127.0.0.1:{server.getsockname()[1]}")
        for step in range(100):
            run.log(step, {"loss": 1.0})
            tracker.notify()
        assert time.monotonic() - start < 1
        tracker.sync()
        tracker.close()
        assert time.monotonic() - start < 8
    said = capsys.readouterr().err
    assert said.count("cannot be reached") == 1
    assert f"python -m zoomldm.tracking {run.folder}" in said
    assert main([str(run.folder)]) == 0
    assert len(history(run, uri, "loss")) == 100


def test_no_tracking_does_nothing(run, tmp_path):
    tracker = Tracker()
    tracker.follow(run)
    tracker.notify()
    tracker.close()
    assert tracker.upload(run) == 0
    assert not (run.folder / "tracking.json").exists()


def test_folders_that_are_no_runs_are_refused(tmp_path, capsys, uri):
    assert main([str(tmp_path / "nothing")]) == 2
    assert "no run there" in capsys.readouterr().err
    untracked = Run.open(tmp_path, "b", {"tracking": {"name": "none"}}, kind="edm")
    assert main([str(untracked.folder)]) == 2
    assert "--uri" in capsys.readouterr().err
    assert main([str(untracked.folder), "--uri", uri]) == 0


def test_a_stored_run_does_not_say_what_may_be_imported(tmp_path, capsys):
    run = Run.open(tmp_path, "c", {"tracking": {"_target_": "os.system", "uri": "x"}}, kind="edm")
    assert main([str(run.folder)]) == 2
    assert "allow_code=[os]" in capsys.readouterr().err


def sweep_config(uri, folder):
    tracked = {"_target_": TARGET, "uri": uri, "experiment": "sweeps"}
    return OmegaConf.create(
        {
            "tracking": tracked if uri else {"_target_": "zoomldm.tracking.base.Tracker"},
            "allow_code": [],
            "hydra": {"overrides": {"task": ["cond=film,none"]}, "sweep": {"dir": str(folder)}},
        }
    )


def test_jobs_of_a_sweep_are_nested_in_its_parent(run, uri, tmp_path):
    callback = SweepCallback()
    callback.on_multirun_start(sweep_config(uri, tmp_path))
    parent = os.environ[PARENT_VARIABLE]
    upload(run, uri)
    assert uploaded(run, uri).data.tags["mlflow.parentRunId"] == parent
    assert MlflowClient(uri).get_run(parent).info.status == "RUNNING"
    callback.on_multirun_end(sweep_config(uri, tmp_path))
    assert MlflowClient(uri).get_run(parent).info.status == "FINISHED"
    assert PARENT_VARIABLE not in os.environ


def children_of(uri, parent, experiment="sweeps"):
    client = MlflowClient(uri)
    group = client.get_experiment_by_name(experiment).experiment_id
    return client.search_runs([group], filter_string=f"tags.mlflow.parentRunId = '{parent}'")


def swept(uri, folder, words, *children):
    folder.mkdir()
    tracker = MLflowTracker(uri, "sweeps")
    tracker.begin_sweep(folder, words)
    parent = os.environ[PARENT_VARIABLE]
    tracker.end_sweep(folder, failed=False)
    tracker.add_to_sweep(folder, {"fd_texture/20x/film": 1.0}, children)
    return parent


def test_runs_of_earlier_sweeps_are_below_every_sweep_that_names_them(uri, tmp_path):
    config = {"seed": 3, "data": {"name": "demo", "root": "data/demo"}}
    run = Run.open(tmp_path, "trained", config, kind="zoomldm", manifest_sha256="abc")
    run.log(1, {"loss": 0.5})
    MLflowTracker(uri, "sweeps").upload(run)  # trained before, below no sweep
    first = swept(uri, tmp_path / "s1", "cond=film,mag", (run, {"fd_texture/20x": 2.0}))
    second = swept(uri, tmp_path / "s2", "cond=film,cnn", (run, {"fd_texture/20x": 2.0}))
    assert first != second
    (own,), (copy,) = children_of(uri, first), children_of(uri, second)
    assert own.info.run_id == run.described()["mlflow_run_id"] != copy.info.run_id
    for child in (own, copy):
        assert child.data.metrics == {"loss": 0.5, "fd_texture/20x": 2.0}
        assert child.data.params["seed"] == "3"
        assert child.data.tags["mlflow.source.git.commit"] == child.data.tags["git_revision"]
        assert [one.dataset.name for one in child.inputs.dataset_inputs] == ["demo"]
        assert child.info.run_name == "trained"
    assert swept(uri, tmp_path / "s3", "cond=film,cnn", (run, {})) == second, "the same sweep goes on below its parent"
    assert len(children_of(uri, second)) == 1
    assert MlflowClient(uri).get_run(second).info.status == "FINISHED"


def test_a_comparison_names_runs_by_what_was_overridden(uri, tmp_path, capsys):
    """MLflow takes no `=` in a metric's name; names of runs have it: -seed=1, -curriculum=tempered."""
    folder = tmp_path / "s1"
    folder.mkdir()
    (folder / "comparison.md").write_text("# comparison")
    tracker = MLflowTracker(uri, "sweeps")
    tracker.begin_sweep(folder, "curriculum=tempered,uniform")
    parent = os.environ[PARENT_VARIABLE]
    tracker.end_sweep(folder, failed=False)
    tracker.add_to_sweep(folder, {"fd_texture/20x/film-curriculum=tempered": 7.5, "fd_texture/20x/[a,b]": 1.0}, [])
    client = MlflowClient(uri)
    assert "warning" not in capsys.readouterr().err
    assert client.get_run(parent).data.metrics == {
        "fd_texture/20x/film-curriculum:tempered": 7.5,
        "fd_texture/20x/_a_b_": 1.0,
    }
    assert [file.path for file in client.list_artifacts(parent)] == ["comparison.md"]


def test_a_failed_job_is_reported_and_the_parent_is_closed_at_exit(uri, tmp_path, capsys, monkeypatch):
    closing = []
    monkeypatch.setattr(tracking.atexit, "register", lambda *call, **options: closing.append((*call, options)))
    callback = SweepCallback()
    callback.on_multirun_start(sweep_config(uri, tmp_path))
    parent = os.environ[PARENT_VARIABLE]
    job = JobReturn(overrides=["cond=vit"], status=JobStatus.FAILED)
    job.return_value = ValueError("no such thing")
    callback.on_job_end(sweep_config(uri, tmp_path), job)
    said = capsys.readouterr().err
    assert "job cond=vit failed: ValueError: no such thing" in said
    assert re.search(r"again, that job alone: python \S+ -m cond=vit", said)
    ((close, folder, options),) = closing
    close(folder, **options)
    assert MlflowClient(uri).get_run(parent).info.status == "FAILED"


def test_a_sweep_without_tracking_or_server_goes_on(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tracking, "PATIENCE_S", 1.0)
    SweepCallback().on_multirun_start(sweep_config(None, tmp_path))
    assert PARENT_VARIABLE not in os.environ
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        SweepCallback().on_multirun_start(sweep_config(f"http://127.0.0.1:{server.getsockname()[1]}", tmp_path))
    assert PARENT_VARIABLE not in os.environ
    assert "no parent run" in capsys.readouterr().err


def test_jobs_in_parallel_share_one_database(uri, tmp_path):
    runs = [
        Run.open(tmp_path, f"r{n}", {"tracking": {"uri": uri, "experiment": "parallel"}}, kind="edm") for n in range(4)
    ]
    for n, run in enumerate(runs):
        run.log(1, {"loss": n})
    threads = [
        threading.Thread(target=upload_run, args=(run,), kwargs={"uri": uri, "experiment": "parallel"}) for run in runs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [history(run, uri, "loss") for run in runs] == [[(1, n)] for n in range(4)]


def test_state_is_remembered_by_server(run, uri, tmp_path):
    other = f"sqlite:///{tmp_path}/other.db"
    run.log(1, {"loss": 1.0})
    upload(run, uri)
    assert upload(run, other) == 1
    assert set(json.loads((run.folder / "tracking.json").read_text())) == {uri, other}
    assert "mlflow" in sys.modules
