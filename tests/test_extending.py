"""docs/extending.md as it stands there: each kind of thing as one file and one YAML outside the repository, and run."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.tiny_slides import tissue_pixels
from zoomldm.config import PROJECT_ROOT
from zoomldm.data.manifest import Manifest

DOCS = (PROJECT_ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
KINDS = ("encoder", "tissue", "reader", "cond", "curriculum", "schedule", "solver", "features", "metrics", "rows")
KINDS += ("source", "to", "tracking")
MINE = ["--config-dir", "my_conf", "allow_code=[mine]"]
TINY = ["data=demo", "data.name=tiny", "data.ladder.num_rungs=2", "fabric=cpu", "optim.batch_size=4"]
TINY += ["optim.max_micro_batch=4", "train.steps=2"]


def written(folder: Path) -> Path:
    """Write every file of the documentation under a folder, and slides that only its reader can open."""
    for language, name, text in re.findall(r"```(python|yaml)\n# (\S+)\n(.*?)```", DOCS, re.DOTALL):
        path = folder / name
        assert (language == "python") == (path.suffix == ".py"), name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "slides").mkdir()
    for patient in range(4):
        np.save(folder / "slides" / f"p{patient}.npy", tissue_pixels(640, 640, seed=patient))
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = written(tmp_path_factory.mktemp("extending"))
        patch.chdir(folder)
        patch.syspath_prepend(str(PROJECT_ROOT))
        patch.setattr(sys, "path", [*sys.path])
        for name in ("data", "runs", "cache", "weights"):
            patch.setenv(f"ZOOMLDM_{name.upper()}", str(folder / name))
        yield folder
        for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
            del sys.modules[name]


def run(script: str, *words: str) -> None:
    """Run an entry in this process, which has imported torch already."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, *words])
        runpy.run_path(str(PROJECT_ROOT / script), run_name="__main__")


def test_every_kind_is_documented():
    for kind in KINDS:
        assert f"# my_conf/{kind}/mine.yaml" in DOCS, kind


@pytest.fixture(scope="module")
def prepared(place):
    preparing = ["reader=[mine]", "encoder=mine", "tissue=mine", "slides=slides", "slide.mpp=0.5", "executor=serial"]
    data = ["data=demo", "data.name=tiny", "data.ladder.num_rungs=2", "data.max_patches_per_slide=20"]
    data += ["data.min_tissue=0.3", "data.stride=1"]
    run("data_prep/prepare.py", *MINE, *data, "data.min_samples={train: 1, test: 1}", *preparing)
    return Manifest.load(place / "data" / "tiny")


@pytest.fixture(scope="module")
def trained(place, prepared):
    run("src/train.py", *MINE, *TINY, "model=autoencoder_tiny", "run_name=first", "tracking=mine")
    run("data_prep/latents.py", "data=demo", "data.name=tiny", "autoencoder.run=first")
    groups = ["encoder", "cond", "curriculum", "schedule", "solver", "tracking"]
    run("src/train.py", *MINE, *TINY, "run_name=mine", "autoencoder.run=first", *(f"{group}=mine" for group in groups))
    return place / "runs" / "mine"


def test_an_encoder_a_segmenter_and_a_reader(prepared):
    assert (prepared.encoder.name, prepared.encoder.dim) == ("mine", 3)
    assert prepared.counts["train"]["20x"] > 0


def test_a_conditioner_a_curriculum_a_schedule_and_a_tracker(place, trained):
    assert any((trained / "checkpoints").glob("step-*"))
    assert (place / "runs" / "rests.txt").read_text().splitlines()[-1].startswith("mine ")


def test_a_solver_a_descriptor_a_metric_and_a_row(trained):
    words = ["run=mine", "rows=[halves,oracle,mine]", "metrics=[mine]", "features=mine", "num_per_magnification=8"]
    run("src/evaluate.py", *MINE, *words, "solver=mine", "sampling.steps=2", "tracking=mine")
    page = (trained / "report" / "index.html").read_text()
    for wanted in ("fd_mine", "real, greyed", "Gap of the means"):
        assert wanted in page


def test_a_source_and_a_way_to_disk(place, trained):
    run("src/sample.py", *MINE, "run=mine", "source=mine", "to=mine", "n=4", "variations=4", "sampling.steps=2")
    (folder,) = (trained / "samples").glob("mine-variations4-steps2-20x-*")
    assert np.load(folder / "00000.npy").shape == (4, 32, 32, 3)
    assert (folder / "contact_sheet.png").is_file()


@pytest.mark.parametrize("target", ["os.system", "zoomldm.files.shutil.rmtree", "mine.cond.Mean"])
def test_a_stored_run_never_brings_its_own_permission(trained, target, capsys):
    path = trained / "config.yaml"
    before = path.read_text()
    path.write_text(before.replace("_target_: mine.cond.Mean", f"_target_: {target}"))
    with pytest.raises(SystemExit):
        run("src/sample.py", "run=mine", "n=1", "magnification=20")
    path.write_text(before)
    assert target in capsys.readouterr().err


def test_a_process_of_its_own_finds_them_too(place, prepared):
    script = str(PROJECT_ROOT / "src" / "train.py")
    words = [*MINE, *TINY, "model=autoencoder_tiny", "tracking=mine", "run_name=alone", "curriculum=mine"]
    done = subprocess.run([sys.executable, script, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
