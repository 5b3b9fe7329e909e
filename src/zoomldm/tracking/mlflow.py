"""Tracking in MLflow. A run's metrics.jsonl is the truth; this copies it, in the background, and can do so later.

`python -m zoomldm.tracking.mlflow runs/NAME …` uploads whatever a server missed.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback

from zoomldm.errors import ConfigError, UserError
from zoomldm.files import write_json
from zoomldm.runs.run import Run, flattened

if TYPE_CHECKING:
    from mlflow import MlflowClient

PARENT_VARIABLE = "ZOOMLDM_PARENT_RUN"
"""Names the MLflow run of the sweep that this process is a job of."""

STATE_NAME, SWEEP_NAME = "tracking.json", "sweep.json"
METRICS_A_CALL, PARAMS_A_CALL = 1000, 100
INTERVAL_S, PATIENCE_S, RETRY_S = 5.0, 20.0, 120.0
MLFLOW_STATUS = {"running": "RUNNING", "finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}


class Tracker:
    """Follow a run. This one follows nothing (tracking=none); every call returns at once."""

    def notify(self) -> None:
        """Say that there are new metrics."""

    def artifact(self, path: Path) -> None:
        """Copy a file or a folder to the tracking server."""

    def sync(self) -> None:
        """Bring everything up to date, within a limited time."""

    def close(self) -> None:
        """Bring everything up to date and stop following."""
        self.sync()


class MLflowTracker(Tracker):
    """Copy a run to MLflow in a thread of its own: training neither waits for a server nor stops when there is none."""

    def __init__(self, run: Run, *, uri: str, experiment: str) -> None:
        self.run, self.uri, self.experiment = run, uri, experiment
        self._due, self._idle, self._closing = threading.Event(), threading.Event(), False
        self._warned = False
        self._artifacts: list[Path] = []
        self._due.set()
        self._thread = threading.Thread(target=self._follow, name="mlflow", daemon=True)
        self._thread.start()

    def notify(self) -> None:
        self._due.set()

    def artifact(self, path: Path) -> None:
        self._artifacts.append(Path(path))
        self._due.set()

    def sync(self) -> None:
        self._idle.clear()
        self._due.set()
        if not self._idle.wait(PATIENCE_S):
            self._warn(f"no answer within {PATIENCE_S:.0f} s")

    def close(self) -> None:
        self._closing = True
        self.sync()

    def _follow(self) -> None:
        last_s = -INTERVAL_S
        while True:
            self._due.wait()
            while not self._waited_for() and time.monotonic() - last_s < INTERVAL_S:
                time.sleep(0.2)
            self._due.clear()
            waited_for = self._waited_for()
            artifacts, self._artifacts = self._artifacts, []
            try:
                upload(self.run.folder, uri=self.uri, experiment=self.experiment, artifacts=artifacts)
                last_s = time.monotonic()
            except Exception as error:  # whatever a server, a driver or the network may raise: training goes on
                self._artifacts = artifacts + self._artifacts
                self._warn(str(error))
                last_s = time.monotonic() + RETRY_S
            if waited_for:
                self._idle.set()
            if self._closing:
                return

    def _waited_for(self) -> bool:
        return not self._idle.is_set() or self._closing

    def _warn(self, reason: str) -> None:
        if not self._warned:
            self._warned = True
            print(
                f"warning: MLflow at {self.uri} cannot be reached ({' '.join(reason.split())[:200]}); the run goes on. "
                f"Later: python -m zoomldm.tracking.mlflow {self.run.folder}",
                file=sys.stderr,
            )


def make_tracker(name: str, run: Run, *, uri: str | None, experiment: str | None, is_first: bool = True) -> Tracker:
    """Build the tracker of conf/tracking/<name>.yaml; only the first process of several follows the run.

    Raises:
        ConfigError: no such tracker.
    """
    if name not in ("mlflow", "none"):
        raise ConfigError(f"tracking={name}: expected mlflow or none")
    return MLflowTracker(run, uri=uri, experiment=experiment) if name == "mlflow" and is_first else Tracker()


def upload(
    run_folder: Path | str,
    *,
    uri: str | None = None,
    experiment: str | None = None,
    artifacts: list[Path] | None = None,
) -> int:
    """Bring a run's copy at an MLflow server up to date; return how many metrics were new to it.

    uri and experiment: of the run's own configuration where not given. What was uploaded is remembered in the run's
    tracking.json, so that repeating this costs nothing and adds nothing.

    Raises:
        UserError: not a run's folder, or a run without tracking and no uri given.
    """
    run = Run(Path(run_folder))
    description = run.described()
    if not description:
        raise UserError(f"{run_folder}: no run there (no run.json)")
    settings = run.config.get("tracking") or {}
    uri, experiment = uri or settings.get("uri"), experiment or settings.get("experiment") or "zoomldm"
    if not uri:
        raise UserError(
            f"{run_folder}: this run has tracking=none; say where to upload it: --uri sqlite:////path/mlflow.db"
        )
    client = _client(uri)
    states = _read_states(run)
    state = states.get(uri) or {}
    if not state or not _exists(client, state["run_id"]):
        state = {"run_id": _create_run(client, experiment, run, description), "metrics": 0}
        states[uri] = state
        write_json(run.folder / STATE_NAME, states)
        _log_configuration(client, state["run_id"], run)
        run.update(mlflow_run_id=state["run_id"])
    new = _log_new_metrics(client, run, state)
    for path in artifacts or ():
        if path.is_dir():
            client.log_artifacts(state["run_id"], str(path), path.name)
        elif path.is_file():
            client.log_artifact(state["run_id"], str(path))
    status = MLFLOW_STATUS.get(run.described().get("status"), "RUNNING")
    if state.get("status") != status:
        if status == "RUNNING":
            client.update_run(state["run_id"], status=status)
        else:
            client.set_terminated(state["run_id"], status=status)
        state["status"] = status
    write_json(run.folder / STATE_NAME, states)
    return new


class SweepCallback(Callback):
    """Hydra's callback for sweeps: the parent run, and a line for every job that failed.

    The parent's id is exported, so that the jobs of every launcher nest under it. It is closed at exit where Hydra does
    not say that the sweep ended, which is so when a job fails.
    """

    def __init__(self) -> None:
        self.parent: str | None = None
        self.failed = 0

    def on_multirun_start(self, config: Any, **_: Any) -> None:
        os.environ.pop(PARENT_VARIABLE, None)
        if config.tracking.name != "mlflow":
            return
        words = " ".join(config.hydra.overrides.task) or "sweep"
        made: list[str] = []
        problems: list[BaseException] = []

        def create() -> None:
            try:
                client = _client(config.tracking.uri)
                experiment = _experiment(client, config.tracking.experiment)
                made.append(client.create_run(experiment, run_name=f"sweep {words}"[:250]).info.run_id)
                client.set_tag(made[0], "overrides", words)
            except Exception as error:  # a sweep does not depend on a server
                problems.append(error)

        thread = threading.Thread(target=create, daemon=True)
        thread.start()
        thread.join(PATIENCE_S)
        if not made:
            reason = str(problems[0]) if problems else f"no answer within {PATIENCE_S:.0f} s"
            print(f"warning: no parent run at {config.tracking.uri}: {reason[:200]}", file=sys.stderr)
            return
        self.parent, self.uri = made[0], config.tracking.uri
        os.environ[PARENT_VARIABLE] = self.parent
        write_json(Path(config.hydra.sweep.dir) / SWEEP_NAME, {"mlflow_run_id": self.parent, "uri": self.uri})
        atexit.register(self._close, "FAILED")

    def on_job_end(self, config: Any, job_return: Any, **_: Any) -> None:
        from hydra.core.utils import JobStatus

        if job_return.status == JobStatus.FAILED:
            self.failed += 1
            error = job_return._return_value
            words = " ".join(job_return.overrides or [])
            if str(config.hydra.mode) == "RunMode.MULTIRUN":  # a single job's error is told once, at the end
                print(f"job {words} failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)

    def on_multirun_end(self, config: Any, **_: Any) -> None:
        self._close("FAILED" if self.failed else "FINISHED")

    def _close(self, status: str) -> None:
        if self.parent is None:
            return
        parent, self.parent = self.parent, None
        os.environ.pop(PARENT_VARIABLE, None)
        with _never_hanging():
            _client(self.uri).set_terminated(parent, status=status)


def add_to_sweep(sweep_folder: Path, *, metrics: dict[str, float]) -> None:
    """Copy what a sweep's comparison found, files and metrics, to the sweep's parent run, if it has one."""
    path = sweep_folder / SWEEP_NAME
    if not path.is_file():
        return
    parent = json.loads(path.read_bytes())
    with _never_hanging():
        client = _client(parent["uri"])
        for name, value in metrics.items():
            client.log_metric(parent["mlflow_run_id"], name, value)
        for file in sorted(sweep_folder.glob("comparison.*")):
            client.log_artifact(parent["mlflow_run_id"], str(file))


@contextmanager
def _never_hanging() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        print(f"warning: MLflow: {str(error)[:200]}", file=sys.stderr)


def _client(uri: str) -> MlflowClient:
    """Connect; a new SQLite file is brought to the present schema by this."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    for name in ("alembic", "mlflow.store.db.utils", "mlflow.tracking"):
        logging.getLogger(name).setLevel(logging.ERROR)
    from mlflow import MlflowClient

    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=uri)


def _experiment(client: MlflowClient, name: str) -> str:
    """Return an experiment's id, making it where it is new; its files lie beside a local database."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is not None:
        return found.experiment_id
    uri = client.tracking_uri
    files = None
    if uri.startswith("sqlite:///"):
        files = (Path(uri.removeprefix("sqlite:///")).resolve().parent / "mlflow-artifacts").as_uri()
    try:
        return client.create_experiment(name, artifact_location=files)
    except MlflowException:  # another process was first
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return found.experiment_id


def _exists(client: MlflowClient, run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id).info.lifecycle_stage == "active"
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise


def _create_run(client: MlflowClient, experiment: str, run: Run, description: dict[str, Any]) -> str:
    tags = {
        name: str(description[name])
        for name in ("kind", "git_revision", "git_dirty", "code_version", "manifest_sha256", "command")
        if description.get(name) is not None
    }
    tags |= {f"hardware.{name}": str(value) for name, value in (description.get("hardware") or {}).items()}
    if os.environ.get(PARENT_VARIABLE):
        tags["mlflow.parentRunId"] = os.environ[PARENT_VARIABLE]
    return client.create_run(_experiment(client, experiment), tags=tags, run_name=run.name).info.run_id


def _log_configuration(client: MlflowClient, run_id: str, run: Run) -> None:
    from mlflow.entities import Param

    params = [Param(name, str(value)[:6000]) for name, value in flattened(run.config).items()]
    for start in range(0, len(params), PARAMS_A_CALL):
        client.log_batch(run_id, params=params[start : start + PARAMS_A_CALL])


def _log_new_metrics(client: MlflowClient, run: Run, state: dict[str, Any]) -> int:
    """Upload the lines that are new; a run that went back to a checkpoint writes the same lines again."""
    from mlflow.entities import Metric

    now_ms = int(time.time() * 1000)
    lines = run.metrics.read()
    new = [Metric(line["name"], line["value"], now_ms, line["step"]) for line in lines[state["metrics"] :]]
    for start in range(0, len(new), METRICS_A_CALL):
        part = new[start : start + METRICS_A_CALL]
        client.log_batch(state["run_id"], metrics=part)
        state["metrics"] += len(part)
    return len(new)


def _read_states(run: Run) -> dict[str, Any]:
    try:
        return json.loads((run.folder / STATE_NAME).read_bytes())
    except (OSError, ValueError):
        return {}


def main(arguments: list[str] | None = None) -> int:
    """Upload runs from the command line."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m zoomldm.tracking.mlflow", description="Upload runs to MLflow.")
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs")
    parser.add_argument("--uri", help="tracking server; the run's own where not given")
    parser.add_argument("--experiment")
    chosen = parser.parse_args(arguments)
    try:
        for folder in chosen.runs:
            print(f"{folder}: {upload(folder, uri=chosen.uri, experiment=chosen.experiment)} new metrics")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
