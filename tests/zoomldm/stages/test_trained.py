"""What a ZoomLDM run stands on must be what it was made with, before anything is drawn from it."""

import json
import shutil
from pathlib import Path

import pytest

from tests.helpers.toy_runs import make_toy_edm, make_toy_runs
from zoomldm.data.manifest import Manifest
from zoomldm.errors import UserError
from zoomldm.runs.lineage import parent_of_run
from zoomldm.stages.trained import HowToSample, load_trained


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    return make_toy_runs(tmp_path_factory.mktemp("trained")) / "runs"


@pytest.fixture
def say_parents(runs):
    """Return a function that writes parents into a run's checkpoint; what was there comes back afterwards."""
    before = {path: path.read_bytes() for path in runs.rglob("checkpoint.json")}

    def write(run: str, **parents: str) -> None:
        (path,) = (runs / run / "checkpoints").glob("step-*/checkpoint.json")
        path.write_text(json.dumps({**json.loads(path.read_text()), "parents": parents}))

    yield write
    for path, content in before.items():
        path.write_bytes(content)


def test_what_fits_is_loaded(runs, say_parents):
    manifest = Manifest.load(runs.parent / "data" / "demo")
    say_parents(
        "zoom",
        autoencoder=parent_of_run(runs, "autoencoder", "ae").sha256,
        data=manifest.identity(("latent", "grid")),
    )
    say_parents("edm", zoomldm=parent_of_run(runs, "zoomldm", "zoom").sha256)
    trained = load_trained(runs, "zoom", wants_edm=True)
    assert trained.edm.run_name == "edm"
    assert set(trained.identity) == {"model", "autoencoder", "edm", "data"}


def test_the_guidance_of_an_edm_is_its_own(runs):
    trained = load_trained(runs, "zoom", wants_edm=True)
    its = trained.edm.config["sampling"]["guidance_scale"]
    of_patches = trained.generator(HowToSample(guidance_scale=3.0, guidance_interval=[0.2, 0.8], steps=2))
    assert (of_patches.sampling.guidance_scale, of_patches.edm_sampling.guidance_scale) == (3.0, its)
    assert (of_patches.sampling.guidance_interval, of_patches.edm_sampling.guidance_interval) == ((0.2, 0.8), None)
    assert of_patches.sampling.steps == of_patches.edm_sampling.steps == 2
    by_magnification = trained.generator(HowToSample(edm_guidance_scale={"default": 1, 20: 2}))
    assert by_magnification.edm_sampling.scale_at(0) == 2.0
    assert by_magnification.edm_sampling.scale_at(1) == 1.0
    assert repr(by_magnification.sampling) == repr(trained.sampling)


@pytest.mark.parametrize(
    ("run", "parents", "said"),
    [
        ("zoom", {"autoencoder": "0" * 64}, "trained on or made anew since.*data_prep/latents.py"),
        ("zoom", {"data": "0" * 64}, "data=toy.*src/train.py.*fresh=true"),
        ("edm", {"zoomldm": "0" * 64}, "model=edm zoomldm.run=zoom fresh=true"),
    ],
)
def test_another_state_of_a_parent_is_refused_with_the_command_that_mends_it(runs, say_parents, run, parents, said):
    say_parents(run, **parents)
    with pytest.raises(UserError, match=said):
        load_trained(runs, "zoom", wants_edm=True)


def test_a_data_set_that_is_named_is_meant(runs, say_parents):
    say_parents("zoom", data="0" * 64)
    assert load_trained(runs, "zoom", data_root=runs.parent / "data" / "demo", wants_edm=False).edm is None


def test_an_edm_that_was_told_labels_draws_unnamed_only_where_there_is_no_other_which_is_said(tmp_path, capsys):
    runs = make_toy_runs(tmp_path) / "runs"
    make_toy_edm(tmp_path, "told", ("fat",), "label=class", "label.file=tissue.csv", "label.column=tissue")
    assert load_trained(runs, "zoom", wants_edm=True).edm.run_name == "edm"
    assert "draws conditions" not in capsys.readouterr().out
    shutil.rmtree(runs / "edm")
    assert load_trained(runs, "zoom", wants_edm=True).edm.run_name == "told"
    assert "told, trained with label=class, draws conditions: no other" in capsys.readouterr().out
    load_trained(runs, "zoom", edm="told", wants_edm=True)
    assert "draws conditions" not in capsys.readouterr().out
