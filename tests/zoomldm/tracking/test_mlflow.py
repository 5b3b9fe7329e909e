"""MLflow gets what metrics.jsonl says, sooner or later, and training never waits for it."""

import json
import os
import socket
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from hydra.core.utils import JobReturn, JobStatus
from mlflow import MlflowClient
from omegaconf import OmegaConf

from zoomldm.errors import ConfigError, UserError
from zoomldm.runs.run import Run
from zoomldm.tracking import mlflow as tracking
from zoomldm.tracking.mlflow import PARENT_VARIABLE, MLflowTracker, SweepCallback, Tracker, make_tracker, upload


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    """One database for all tests: making its tables takes most of their time."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def run(tmp_path, uri):
    config = {"seed": 3, "optim": {"lr": 1e-4}, "tracking": {"name": "mlflow", "uri": uri, "experiment": "tests"}}
    return Run.open(tmp_path, "a", config, kind="zoomldm", manifest_sha256="abc")


@pytest.fixture(autouse=True)
def no_sweep(monkeypatch):
    monkeypatch.delenv(PARENT_VARIABLE, raising=False)


def uploaded(run, uri):
    return MlflowClient(uri).get_run(run.described()["mlflow_run_id"])


def history(run, uri, name):
    points = MlflowClient(uri).get_metric_history(run.described()["mlflow_run_id"], name)
    return sorted((point.step, point.value) for point in points)


def test_a_run_carries_its_configuration_and_where_it_comes_from(run, uri):
    upload(run.folder)
    data = uploaded(run, uri).data
    assert data.params["seed"] == "3"
    assert data.params["optim.lr"] == "0.0001"
    assert data.tags["manifest_sha256"] == "abc"
    assert {"git_revision", "git_dirty", "hardware.cpus", "kind", "code_version"} <= data.tags.keys()


def test_uploading_again_adds_only_what_is_new(run, uri):
    for step in range(1, 2001):
        run.log(step, {"loss": 1 / step})
    assert upload(run.folder) == 2000
    first = run.described()["mlflow_run_id"]
    assert upload(run.folder) == 0
    run.log(2001, {"loss": 0.25})
    assert upload(run.folder) == 1
    assert run.described()["mlflow_run_id"] == first
    assert history(run, uri, "loss") == [(s, 1 / s) for s in range(1, 2001)] + [(2001, 0.25)]


def test_a_resumed_run_is_the_same_mlflow_run_without_doubled_points(run, uri):
    for step in (1, 2, 3):
        run.log(step, {"loss": step})
    upload(run.folder)
    run.metrics.truncate(1)  # back to a checkpoint; the same lines are written again
    for step in (2, 3, 4):
        run.log(step, {"loss": step})
        upload(run.folder)
    assert history(run, uri, "loss") == [(1, 1), (2, 2), (3, 3), (4, 4)]


def test_status_follows_the_run(run, uri):
    for status, expected in (
        ("running", "RUNNING"),
        ("finished", "FINISHED"),
        ("running", "RUNNING"),
        ("failed", "FAILED"),
    ):
        run.update(status=status)
        upload(run.folder)
        assert uploaded(run, uri).info.status == expected


def test_a_run_deleted_from_the_server_is_uploaded_anew(run, uri):
    run.log(1, {"loss": 1.0})
    upload(run.folder)
    MlflowClient(uri).delete_run(run.described()["mlflow_run_id"])
    assert upload(run.folder) == 1
    assert history(run, uri, "loss") == [(1, 1.0)]


def test_the_tracker_follows_in_the_background(run, uri, tmp_path):
    tracker = MLflowTracker(run, uri=uri, experiment="tests")
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
    tracker._thread.join(5)
    assert not tracker._thread.is_alive()


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
        tracker = MLflowTracker(run, uri=f"http://127.0.0.1:{server.getsockname()[1]}", experiment="tests")
        for step in range(100):
            run.log(step, {"loss": 1.0})
            tracker.notify()
        assert time.monotonic() - start < 1
        tracker.sync()
        tracker.close()
        assert time.monotonic() - start < 8
    said = capsys.readouterr().err
    assert said.count("cannot be reached") == 1
    assert f"python -m zoomldm.tracking.mlflow {run.folder}" in said
    assert tracking.main([str(run.folder)]) == 0
    assert len(history(run, uri, "loss")) == 100


def test_no_tracking_does_nothing(run, uri):
    tracker = make_tracker("none", run, uri=None, experiment=None)
    assert type(tracker) is Tracker
    tracker.notify()
    tracker.close()
    assert type(make_tracker("mlflow", run, uri=uri, experiment="tests", is_first=False)) is Tracker
    with pytest.raises(ConfigError, match="tracking=mlfow"):
        make_tracker("mlfow", run, uri=None, experiment=None)


def test_folders_that_are_no_runs_are_refused(tmp_path, capsys):
    with pytest.raises(UserError, match="no run there"):
        upload(tmp_path / "nothing")
    assert tracking.main([str(tmp_path / "nothing")]) == 2
    untracked = Run.open(tmp_path, "b", {"tracking": {"name": "none", "uri": None}}, kind="edm")
    with pytest.raises(UserError, match="--uri"):
        upload(untracked.folder)


def sweep_config(uri, folder, name="mlflow"):
    return OmegaConf.create(
        {
            "tracking": {"name": name, "uri": uri, "experiment": "sweeps"},
            "hydra": {"overrides": {"task": ["cond=film,none"]}, "sweep": {"dir": str(folder)}},
        }
    )


def test_jobs_of_a_sweep_are_nested_in_its_parent(run, uri, tmp_path):
    callback = SweepCallback()
    callback.on_multirun_start(sweep_config(uri, tmp_path))
    parent = os.environ[PARENT_VARIABLE]
    upload(run.folder)
    assert uploaded(run, uri).data.tags["mlflow.parentRunId"] == parent
    assert MlflowClient(uri).get_run(parent).info.status == "RUNNING"
    callback.on_multirun_end(sweep_config(uri, tmp_path))
    assert MlflowClient(uri).get_run(parent).info.status == "FINISHED"
    assert PARENT_VARIABLE not in os.environ


def test_a_failed_job_is_reported_and_the_parent_is_closed_at_exit(uri, tmp_path, capsys, monkeypatch):
    closing = []
    monkeypatch.setattr(tracking.atexit, "register", lambda *call: closing.append(call))
    callback = SweepCallback()
    callback.on_multirun_start(sweep_config(uri, tmp_path))
    parent = os.environ[PARENT_VARIABLE]
    job = JobReturn(overrides=["cond=vit"], status=JobStatus.FAILED)
    job.return_value = ValueError("no such thing")
    callback.on_job_end(SimpleNamespace(hydra=SimpleNamespace(mode="RunMode.MULTIRUN")), job)
    assert "job cond=vit failed: ValueError: no such thing" in capsys.readouterr().err
    close, status = closing[0]
    close(status)
    assert MlflowClient(uri).get_run(parent).info.status == "FAILED"


def test_a_sweep_without_tracking_or_server_goes_on(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tracking, "PATIENCE_S", 1.0)
    SweepCallback().on_multirun_start(sweep_config(None, tmp_path, name="none"))
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
    threads = [threading.Thread(target=upload, args=(run.folder,)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [history(run, uri, "loss") for run in runs] == [[(1, n)] for n in range(4)]


def test_state_is_remembered_by_server(run, uri, tmp_path):
    other = f"sqlite:///{tmp_path}/other.db"
    run.log(1, {"loss": 1.0})
    upload(run.folder)
    assert upload(run.folder, uri=other) == 1
    assert set(json.loads((run.folder / "tracking.json").read_text())) == {uri, other}
    assert "mlflow" in sys.modules
