"""Tracking in MLflow: a copy of each run, made in the background, that can also be made later."""

from __future__ import annotations

import atexit
import json
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from zoomldm.errors import UserError
from zoomldm.files import write_json
from zoomldm.runs.run import Run
from zoomldm.tracking.base import Tracker
from zoomldm.tracking.mlflow_server import PARENT_VARIABLE, never_failing, upload_run
from zoomldm.tracking.mlflow_sweep import add_comparison, adopt, end_parent, open_parent

SWEEP_NAME = "sweep.json"
INTERVAL_S, PATIENCE_S, RETRY_S = 5.0, 20.0, 120.0


class MLflowTracker(Tracker):
    """Copy runs to an MLflow server in a thread of its own: training neither waits for it nor stops when there is none.

    Args:
        uri: a server, or a local file (``sqlite:////path/mlflow.db``).
        experiment: MLflow's group of runs, made where it is new.
    """

    def __init__(self, uri: str, experiment: str) -> None:
        self.uri, self.experiment = uri, experiment
        self._run: Run | None = None
        self._due, self._idle, self._closing = threading.Event(), threading.Event(), False
        self._warned = False
        self._artifacts: list[Path] = []

    def follow(self, run: Run) -> None:
        self._run = run
        self._due.set()
        threading.Thread(target=self._follow, args=(run,), name="mlflow", daemon=True).start()

    def notify(self) -> None:
        self._due.set()

    def artifact(self, path: Path) -> None:
        self._artifacts.append(Path(path))
        self._due.set()

    def sync(self) -> None:
        if self._run is None:
            return
        self._idle.clear()
        self._due.set()
        if not self._idle.wait(PATIENCE_S):
            self._warn(f"no answer within {PATIENCE_S:.0f} s")

    def close(self) -> None:
        self._closing = True
        self.sync()

    def upload(self, run: Run) -> int:
        if not self.uri:
            raise UserError(f"{run.folder}: nothing says where to upload it: --uri sqlite:////path/mlflow.db")
        return upload_run(run, uri=self.uri, experiment=self.experiment)

    def begin_sweep(self, folder: Path, words: str) -> None:
        os.environ.pop(PARENT_VARIABLE, None)
        made: list[str] = []
        problems: list[Exception] = []

        def create() -> None:
            try:
                made.append(open_parent(self.uri, self.experiment, words))
            except Exception as error:  # a sweep does not depend on a server
                problems.append(error)

        thread = threading.Thread(target=create, daemon=True)
        thread.start()
        thread.join(PATIENCE_S)
        if not made:
            reason = str(problems[0]) if problems else f"no answer within {PATIENCE_S:.0f} s"
            print(f"warning: no parent run at {self.uri}: {reason[:200]}", file=sys.stderr)
            return
        os.environ[PARENT_VARIABLE] = made[0]  # jobs of every launcher inherit it
        write_json(folder / SWEEP_NAME, {"mlflow_run_id": made[0], "uri": self.uri})
        atexit.register(self.end_sweep, folder, failed=True)  # Hydra does not say that a sweep ended where a job failed

    def end_sweep(self, folder: Path, *, failed: bool) -> None:
        parent = os.environ.pop(PARENT_VARIABLE, None)
        if parent is not None:
            with never_failing():
                end_parent(self.uri, parent, failed=failed)

    def add_to_sweep(
        self, folder: Path, metrics: Mapping[str, float], children: Sequence[tuple[Run, Mapping[str, float]]]
    ) -> None:
        path = folder / SWEEP_NAME
        if path.is_file():
            with never_failing():
                parent = json.loads(path.read_bytes())["mlflow_run_id"]
                for run, of_run in children:
                    adopt(self.uri, self.experiment, parent, run=run, metrics=of_run)
                add_comparison(self.uri, parent, metrics=metrics, files=sorted(folder.glob("comparison.*")))

    def _follow(self, run: Run) -> None:
        last_s = -INTERVAL_S
        while True:
            self._due.wait()
            while not self._waited_for() and time.monotonic() - last_s < INTERVAL_S:
                time.sleep(0.2)
            self._due.clear()
            waited_for = self._waited_for()
            artifacts, self._artifacts = self._artifacts, []
            try:
                upload_run(run, uri=self.uri, experiment=self.experiment, artifacts=artifacts)
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
        if not self._warned and self._run is not None:
            self._warned = True
            print(
                f"warning: MLflow at {self.uri} cannot be reached ({' '.join(reason.split())[:200]}); the run goes on. "
                f"Later: python -m zoomldm.tracking {self._run.folder}",
                file=sys.stderr,
            )
