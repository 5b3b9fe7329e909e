"""What is said to an MLflow server: a run's configuration once, its metrics as they come, files, and its status."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoomldm.files import write_json
from zoomldm.runs.identity import flattened
from zoomldm.runs.run import Run

if TYPE_CHECKING:
    from mlflow import MlflowClient

PARENT_VARIABLE = "ZOOMLDM_PARENT_RUN"
"""Names the MLflow run of the sweep that this process is a job of."""

PARENT_TAG = "mlflow.parentRunId"

STATE_NAME = "tracking.json"
METRICS_A_CALL, PARAMS_A_CALL = 1000, 100
MLFLOW_STATUS = {"running": "RUNNING", "finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}


def upload_run(run: Run, *, uri: str, experiment: str, artifacts: Sequence[Path] = ()) -> int:
    """Bring a run's copy up to date; return how many metrics were new to it.

    What was uploaded is remembered in the run's tracking.json, so that repeating this costs and adds nothing.
    """
    client = connected(uri)
    states = read_states(run)
    state = states.get(uri) or {}
    if not state or not _exists(client, state["run_id"]):
        state = {"run_id": _create_run(client, experiment, run), "metrics": 0}
        states[uri] = state
        write_json(run.folder / STATE_NAME, states)
        log_configuration(client, state["run_id"], run)
        run.update(mlflow_run_id=state["run_id"])
    new = _log_new_metrics(client, run, state)
    for path in artifacts:
        if path.is_dir():
            client.log_artifacts(state["run_id"], str(path), path.name)
        elif path.is_file():
            client.log_artifact(state["run_id"], str(path))
    _set_status(client, run, state)
    write_json(run.folder / STATE_NAME, states)
    return new


@contextmanager
def never_failing() -> Iterator[None]:
    """Warn where a server fails; nothing here depends on one."""
    try:
        yield
    except Exception as error:
        print(f"warning: MLflow: {str(error)[:200]}", file=sys.stderr)


def connected(uri: str) -> MlflowClient:
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


def experiment_id(client: MlflowClient, name: str) -> str:
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


def _create_run(client: MlflowClient, experiment: str, run: Run) -> str:
    tags = tags_of(run)
    if os.environ.get(PARENT_VARIABLE):
        tags[PARENT_TAG] = os.environ[PARENT_VARIABLE]
    return client.create_run(experiment_id(client, experiment), tags=tags, run_name=run.name).info.run_id


def tags_of(run: Run) -> dict[str, str]:
    """Return what MLflow's table of runs has columns for: where a run comes from, its source and revision too."""
    description = run.described()
    tags = {
        name: str(description[name])
        for name in ("kind", "git_revision", "git_dirty", "code_version", "manifest_sha256", "command")
        if description.get(name) is not None
    }
    tags |= {f"hardware.{name}": str(value) for name, value in (description.get("hardware") or {}).items()}
    tags |= {
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": tags.get("command", "").partition(" ")[0] or "zoomldm",
    }
    return tags | ({"mlflow.source.git.commit": tags["git_revision"]} if "git_revision" in tags else {})


def log_configuration(client: MlflowClient, run_id: str, run: Run) -> None:
    """Log a run's configuration as parameters, and its data set as what it was trained on."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, Param

    params = [Param(name, str(value)[:6000]) for name, value in flattened(run.config).items()]
    for start in range(0, len(params), PARAMS_A_CALL):
        client.log_batch(run_id, params=params[start : start + PARAMS_A_CALL])
    data, identity = run.config.get("data") or {}, run.described().get("manifest_sha256")
    if "name" in data and identity:
        source = json.dumps({"uri": str(data.get("root"))})
        used = Dataset(name=data["name"], digest=identity[:12], source_type="local", source=source)
        client.log_inputs(run_id, [DatasetInput(used, [InputTag("mlflow.data.context", "training")])])


def metric_name(name: str) -> str:
    """Return a metric's name as MLflow takes it: the run that it may name can hold the `=` of an override."""
    return re.sub(r"[^/\w.\- :]", "_", name.replace("=", ":"))


def _log_new_metrics(client: MlflowClient, run: Run, state: dict[str, Any]) -> int:
    """Upload the lines that are new; a run that went back to a checkpoint writes the same lines again."""
    from mlflow.entities import Metric

    now_ms = int(time.time() * 1000)
    lines = run.metrics.read()
    new = [Metric(metric_name(one["name"]), one["value"], now_ms, one["step"]) for one in lines[state["metrics"] :]]
    for start in range(0, len(new), METRICS_A_CALL):
        part = new[start : start + METRICS_A_CALL]
        client.log_batch(state["run_id"], metrics=part)
        state["metrics"] += len(part)
    return len(new)


def _set_status(client: MlflowClient, run: Run, state: dict[str, Any]) -> None:
    status = MLFLOW_STATUS.get(run.described().get("status"), "RUNNING")
    if state.get("status") == status:
        return
    if status == "RUNNING":
        client.update_run(state["run_id"], status=status)
    else:
        client.set_terminated(state["run_id"], status=status)
    state["status"] = status


def read_states(run: Run) -> dict[str, Any]:
    try:
        return json.loads((run.folder / STATE_NAME).read_bytes())
    except (OSError, ValueError):
        return {}
