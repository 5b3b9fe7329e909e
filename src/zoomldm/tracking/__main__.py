"""Upload runs that a server missed: ``python -m zoomldm.tracking runs/NAME …``."""

import argparse
import sys
from pathlib import Path

import yaml

from zoomldm.config import CONF, Option
from zoomldm.errors import UserError
from zoomldm.runs.run import Run
from zoomldm.tracking.base import Tracker


def main(arguments: list[str] | None = None) -> int:
    """Upload runs by the tracker of their own configuration, or to the server that is named."""
    parser = argparse.ArgumentParser(prog="python -m zoomldm.tracking", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs")
    parser.add_argument("--uri", help="MLflow server; the run's own where not given")
    parser.add_argument("--experiment")
    parser.add_argument("--allow-code", nargs="*", default=[], help="packages outside this repository that may be used")
    chosen = parser.parse_args(arguments)
    named = {key: value for key in ("uri", "experiment") if (value := getattr(chosen, key)) is not None}
    try:
        for folder in chosen.runs:
            run = Run(folder)
            if not run.described():
                raise UserError(f"{folder}: no run there (no run.json)")
            section = run.config.get("tracking") or {}
            if not section.get("uri") and "uri" in named:
                section = yaml.safe_load((CONF / "tracking" / "mlflow.yaml").read_text(encoding="utf-8"))
            if section.get("name") == "none":
                raise UserError(f"{folder}: this run has tracking=none; say where: --uri sqlite:////path/mlflow.db")
            tracker = Option("tracking", {**section, **named}, tuple(chosen.allow_code)).make(Tracker)
            print(f"{folder}: {tracker.upload(run)} new metrics")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
