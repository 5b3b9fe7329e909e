"""A sweep at an MLflow server: a parent run, found again by what was swept, with every run of the sweep below it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoomldm.files import write_json
from zoomldm.runs.run import Run
from zoomldm.tracking.mlflow_server import (
    METRICS_A_CALL,
    PARENT_TAG,
    STATE_NAME,
    connected,
    experiment_id,
    log_configuration,
    metric_name,
    read_states,
    tags_of,
    upload_run,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

SWEEP_TAG, COPY_TAG = "sweep", "copy_of"


def open_parent(uri: str, experiment: str, words: str) -> str:
    """Return the id of the MLflow run under which a sweep's runs nest: that of an earlier start, else a new one."""
    client, key = connected(uri), hashlib.sha256(words.encode()).hexdigest()[:16]
    group = experiment_id(client, experiment)
    found = client.search_runs([group], filter_string=f"tags.{SWEEP_TAG} = '{key}'", max_results=1)
    if found:
        parent = found[0].info.run_id
        client.update_run(parent, status="RUNNING")
        return parent
    tags = {SWEEP_TAG: key, "overrides": words}
    return client.create_run(group, tags=tags, run_name=f"sweep {words}"[:250]).info.run_id


def end_parent(uri: str, parent: str, *, failed: bool) -> None:
    """Close a sweep's run."""
    connected(uri).set_terminated(parent, status="FAILED" if failed else "FINISHED")


def add_comparison(uri: str, parent: str, *, metrics: Mapping[str, float], files: Sequence[Path]) -> None:
    """Copy metrics and files to a sweep's run."""
    client = connected(uri)
    _log(client, parent, metrics)
    for file in files:
        client.log_artifact(parent, str(file))


def adopt(uri: str, experiment: str, parent: str, *, run: Run, metrics: Mapping[str, float]) -> None:
    """Put a run below a sweep's parent, also one that was trained before.

    A run has one parent at MLflow; one that is below another sweep's is copied: configuration, tags and newest figures.

    Args:
        metrics: to be shown beside those of the other runs of the sweep.
    """
    upload_run(run, uri=uri, experiment=experiment)
    client, states = connected(uri), read_states(run)
    own = states[uri]["run_id"]
    before = client.get_run(own).data
    for name, value in tags_of(run).items():
        if name not in before.tags:
            client.set_tag(own, name, value)  # of an earlier version's upload
    shown = own
    if before.tags.setdefault(PARENT_TAG, parent) == parent:
        client.set_tag(own, PARENT_TAG, parent)
    else:
        copies = states[uri].setdefault("copies", {})
        if parent not in copies:
            tags = tags_of(run) | {PARENT_TAG: parent, COPY_TAG: own}
            copy = client.create_run(experiment_id(client, experiment), tags=tags, run_name=run.name).info.run_id
            log_configuration(client, copy, run)
            client.set_terminated(copy)
            copies[parent] = copy
            write_json(run.folder / STATE_NAME, states)
        shown, metrics = copies[parent], before.metrics | metrics
    _log(client, shown, metrics)


def _log(client: MlflowClient, run_id: str, metrics: Mapping[str, float]) -> None:
    from mlflow.entities import Metric

    known, now_ms = client.get_run(run_id).data.metrics, int(time.time() * 1000)
    taken = {metric_name(name): value for name, value in metrics.items()}
    new = [Metric(name, value, now_ms, 0) for name, value in taken.items() if known.get(name) != value]
    for start in range(0, len(new), METRICS_A_CALL):
        client.log_batch(run_id, metrics=new[start : start + METRICS_A_CALL])
