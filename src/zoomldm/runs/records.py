"""The records of a run in lines of JSON: metrics.jsonl is exact and repeatable, perf.jsonl holds the timings."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class MetricsLog:
    """metrics.jsonl: lines of {"step", "name", "value"}, steps in rising order, values at full precision."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append the metrics of a step."""
        lines = [json.dumps({"step": step, "name": name, "value": float(value)}) for name, value in metrics.items()]
        append_lines(self.path, lines)

    def truncate(self, step: int) -> None:
        """Take away every line after `step`, and a last line that was cut short."""
        if not self.path.is_file():
            return
        kept = 0
        with open(self.path, "rb") as stream:
            for line in stream:
                if not line.endswith(b"\n") or json.loads(line)["step"] > step:
                    break
                kept += len(line)
        os.truncate(self.path, kept)

    def read(self) -> list[dict[str, Any]]:
        """Return every whole line."""
        return read_lines(self.path)


def append_lines(path: Path, lines: list[str]) -> None:
    """Append whole lines to a file in one write."""
    with open(path, "ab") as stream:
        stream.write("".join(line + "\n" for line in lines).encode())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a .jsonl file, without a last line that was cut short; none where there is no file."""
    if not Path(path).is_file():
        return []
    return [json.loads(line) for line in Path(path).read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
