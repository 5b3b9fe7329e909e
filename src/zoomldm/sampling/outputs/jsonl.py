"""Patches as PNGs, and one file that says of each how it was made."""

from __future__ import annotations

import json
from pathlib import Path

from zoomldm.files import write_atomically
from zoomldm.sampling.outputs.png import PngOutput, facts_of, png_path


class JsonLinesOutput(PngOutput):
    """PNGs, and samples.jsonl with a line for each: its file and its facts."""

    def finish(self, folder: Path, num: int) -> None:
        paths = [png_path(folder, place) for place in range(num)]
        lines = [json.dumps({"file": path.name} | facts_of(path)) for path in paths]
        write_atomically(folder / "samples.jsonl", "".join(f"{line}\n" for line in lines))
