"""A run: a folder with an identity, its configuration, its records, and what it came from.

<paths.runs>/<run_name>/config.yaml     resolved
                        run.json        kind, code, machine, data set, MLflow run, status
                        metrics.jsonl perf.jsonl checkpoints/ samples/ report/ evaluation/
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zoomldm.errors import ConfigError, UserError, near_match
from zoomldm.files import write_atomically, write_json
from zoomldm.runs.upgrade import upgraded
from zoomldm.launch.processes import is_first_process
from zoomldm.runs.identity import check_run_name, differing_keys
from zoomldm.runs.provenance import provenance
from zoomldm.runs.records import MetricsLog

FORMAT_VERSION = 1
CONFIG_NAME, RUN_NAME = "config.yaml", "run.json"


class Run:
    """An open run.

    folder, name, kind, config (plain, resolved); `metrics` is its metrics.jsonl.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.name = self.folder.name
        self.metrics = MetricsLog(self.folder / "metrics.jsonl")

    def __repr__(self) -> str:
        return f"Run({self.folder})"

    @classmethod
    def open(
        cls,
        root: Path | str,
        name: str,
        config: Mapping[str, Any],
        *,
        kind: str,
        fresh: bool = False,
        manifest_sha256: str | None = None,
        formerly: Sequence[str] = (),
        origin: Mapping[str, Any] | None = None,
    ) -> Run:
        """Create the run `name` under `root`, or go on with it; only the first process writes.

        config: plain and resolved. fresh: delete the run of this name before. formerly: hashes by which earlier
        versions knew the same data. origin: the checkpoint that a new run begins at, for run.json (see origin).

        Raises:
            ConfigError: a run of this name has another configuration or data set (the message shows what differs), or the
            name is that of no folder under ``root``.
        """
        check_run_name(name)
        run = cls(Path(root) / name)
        if not is_first_process():
            return run
        if fresh:
            shutil.rmtree(run.folder, ignore_errors=True)
        before = run.described()
        if before:
            run._check_same(config, before, manifest_sha256, formerly)
        run.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(
            run.folder / CONFIG_NAME, _to_yaml({key: value for key, value in config.items() if key != "allow_code"})
        )
        if before:
            run.update(manifest_sha256=manifest_sha256)
            return run
        now = _timestamp()
        description = {
            "format_version": FORMAT_VERSION,
            "kind": kind,
            "run_name": name,
            "created": now,
            "updated": now,
            "status": "created",
            "step": 0,
            **provenance(),
            "sessions": [],
            "manifest_sha256": manifest_sha256,
            "mlflow_run_id": None,
            "from": dict(origin) if origin else None,
        }
        write_json(run.folder / RUN_NAME, description)
        return run

    @property
    def kind(self) -> str:
        """autoencoder, zoomldm or edm."""
        return self.described().get("kind", "")

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration, from config.yaml."""
        return _from_yaml(self.folder / CONFIG_NAME)

    def described(self) -> dict[str, Any]:
        """Return what run.json says, {} where there is none.

        Raises:
            UserError: unreadable, or of another format version.
        """
        path = self.folder / RUN_NAME
        if not path.is_file():
            return {}
        try:
            content = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be read ({error}); fresh=true starts the run anew") from error
        if content.get("format_version") != FORMAT_VERSION:
            raise UserError(
                f"{path}: format version {content.get('format_version')}, this code reads {FORMAT_VERSION}; "
                "use the code that wrote it, or fresh=true"
            )
        return content

    def update(self, **facts: Any) -> None:
        """Change facts of run.json."""
        before = self.described()
        if before != before | facts:
            write_json(self.folder / RUN_NAME, before | facts | {"updated": _timestamp()})

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append metrics to metrics.jsonl."""
        self.metrics.write(step, metrics)

    @property
    def finished(self) -> bool:
        """Whether training came to its end."""
        return self.described().get("status") == "finished"

    @contextmanager
    def in_progress(self, is_first: bool = True) -> Iterator[None]:
        """Keep `status` in run.json: running meanwhile, failed after an error, stopped by Ctrl-C; else the caller says it.

        What trains it is noted beside it, and in `sessions` for each time that it went on.
        """
        if is_first:
            now = provenance()
            sessions = [*self.described().get("sessions", []), {"began": _timestamp(), **now}]
            self.update(status="running", sessions=sessions, **now)
        try:
            yield
        except (Exception, KeyboardInterrupt) as error:
            if is_first:
                self.update(status="failed" if isinstance(error, Exception) else "stopped")
            raise

    def _check_same(
        self,
        config: Mapping[str, Any],
        before: Mapping[str, Any],
        manifest_sha256: str | None,
        formerly: Sequence[str],
    ) -> None:
        path = self.folder / CONFIG_NAME
        differing = differing_keys(_from_yaml(path), config) if path.is_file() else {}
        advice = "choose another run_name=, or fresh=true to delete that run and start anew"
        if differing:
            listed = "\n".join(f"  {key}: {old} in the run, {new} now" for key, (old, new) in differing.items())
            raise ConfigError(f"run {self.name} was made with another configuration:\n{listed}\n{advice}")
        known = before.get("manifest_sha256")
        if known and manifest_sha256 and known not in (manifest_sha256, *formerly):
            raise ConfigError(
                f"run {self.name} was made with another version of its data set (manifest {known[:12]}, now "
                f"{manifest_sha256[:12]}); {advice}"
            )


def checkpoint_steps(folder: Path) -> list[int]:
    """Return the steps of all checkpoints in a run's folder of them, ascending."""
    found = folder.glob("step-*/checkpoint.json") if folder.is_dir() else ()
    return sorted(int(path.parent.name.removeprefix("step-")) for path in found)


def find_runs(root: Path | str, kind: str | None = None) -> list[Run]:
    """Return the runs under `root`, of one kind or all, the longest unchanged first."""
    found = []
    for path in Path(root).glob(f"*/{RUN_NAME}"):
        try:
            description = Run(path.parent).described()
        except UserError:
            continue
        if kind in (None, description["kind"]):
            found.append((description["updated"], path.parent))
    return [Run(folder) for _, folder in sorted(found)]


def newest(root: Path | str, kind: str) -> Run | None:
    """Return the newest run of a kind, of those with a checkpoint if any has one; None without runs."""
    return next(reversed(trained_of(find_runs(root, kind))), None)


def trained_of(runs: Sequence[Run]) -> Sequence[Run]:
    """Return the runs that have a checkpoint, in their order; all where none has."""
    return [run for run in runs if any(run.folder.glob("checkpoints/step-*"))] or runs


def find_run(root: Path | str, kind: str, name: str | None = None) -> Run:
    """Return the run `name`, or the newest of its kind.

    Raises:
        UserError: there is none; the message lists those that there are.
    """
    if name is None:
        run = newest(root, kind)
        if run is None:
            raise UserError(f"{root}: no {kind} run yet; train one first: `python src/train.py model={kind}_tiny`")
        return run
    run = Run(Path(root) / name)
    description = run.described()
    if not description:
        names = [r.name for r in find_runs(root, kind)]
        raise UserError(
            f"run {name}: not in {root};{near_match(name, names)} {kind} runs there: {', '.join(names) or 'none'}"
        )
    if description["kind"] != kind:
        raise UserError(f"run {name} is a run of {description['kind']}; expected one of {kind}")
    return run


def _timestamp() -> str:
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z"


def _to_yaml(config: Mapping[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(json.loads(json.dumps(config)), sort_keys=False, allow_unicode=True)


def _from_yaml(path: Path) -> dict[str, Any]:
    import yaml

    return upgraded(yaml.safe_load(path.read_text(encoding="utf-8")))
