"""A tissue segmenter and a slide reader of one's own: one Python file and one YAML each, and nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.helpers.tiny_slides import tissue_pixels

ROOT = Path(__file__).resolve().parents[2]

MINE = """
import numpy as np
from data_prep.slides.readers.base import SlideReader
from data_prep.tissue.segmenter import Segmenter

class Dark(Segmenter):
    def __init__(self, *, below):
        self.below = below

    def segment(self, thumbnail, um_per_px):
        tissue = thumbnail.min(2) < self.below
        return tissue, np.zeros_like(tissue)

class NumpyReader(SlideReader):
    suffixes = frozenset({".npy"})
    vendor = "numpy"

    def __init__(self, path, *, mpp):
        self.pixels = np.load(path)
        self.level_sizes, self.downsamples = [self.pixels.shape[1::-1]], [1.0]
        self.properties = {"openslide.mpp-x": str(mpp)}

    def read(self, level, x, y, width, height):
        return self.pixels[y : y + height, x : x + width]
"""


def prepare(folder, *words):
    """Run prepare.py in ``folder`` on its slides; return exit code and what it wrote to stderr."""
    options = ["--config-dir", "conf", "data=demo", "slides=slides", f"paths.data={folder / 'data'}", "executor=serial"]
    chosen = ["tissue=dark", "reader=[numpy,auto]", "data.min_samples.train=1", "data.min_samples.test=0"]
    command = [sys.executable, ROOT / "data_prep" / "prepare.py", *options, *chosen, *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)
    return done.returncode, done.stderr


def test_both_are_used_by_the_command_once_it_allows_them(tmp_path):
    for path, text in {
        "mine.py": MINE,
        "conf/tissue/dark.yaml": "_target_: mine.Dark\nname: dark\nbelow: 200\n",
        "conf/reader/numpy.yaml": "numpy:\n  _target_: mine.NumpyReader\n  mpp: 0.5\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    (tmp_path / "slides").mkdir()
    np.save(tmp_path / "slides" / "a.npy", tissue_pixels(500, 400))
    code, errors = prepare(tmp_path)
    assert (code, "add allow_code=[mine]" in errors) == (2, True)
    code, errors = prepare(tmp_path, "allow_code=[mine]")
    assert code == 0, errors
    state = json.loads((tmp_path / "data" / "demo" / "slides" / "a" / "state.json").read_bytes())
    assert (state["status"], state["format"], state["reader"]) == ("done", "numpy", "NumpyReader")
    settings = json.loads((tmp_path / "data" / "demo" / "slides" / "settings.json").read_bytes())
    assert (settings["tissue"]["segmenter"], settings["tissue"]["below"]) == ("mine.Dark", 200)
