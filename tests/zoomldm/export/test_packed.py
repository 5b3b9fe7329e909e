"""A model that ships: packed from runs, then loaded, sampled and judged without them; nothing damaged is read."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from data_prep.settings import plain, tissue_of
from tests.helpers.tiny_slides import tissue_pixels
from tests.helpers.toy_runs import make_toy_runs
from zoomldm import composing
from zoomldm.commands import evaluate, sample
from zoomldm.commands.export import source_of
from zoomldm.config import PROJECT_ROOT
from zoomldm.data.manifest import Manifest
from zoomldm.errors import ConfigError, UserError, WeightsError
from zoomldm.export import packed as packing
from zoomldm.export.packed_card import Training
from zoomldm.runs.records import append_lines
from zoomldm.runs.run import Run
from zoomldm.stages.packed import SHIPPED, PackedModel
from zoomldm.stages.trained import load_trained


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Runs of random weights on a data set that says how it was prepared."""
    root = make_toy_runs(tmp_path_factory.mktemp("toy"))
    (cfg,) = composing.compose_jobs("prepare", [f"paths.root={root}", "data=demo"])
    manifest = Manifest.load(root / "data" / "demo")
    of_any_ladder = {"min_tissue": 0.5, "stride": 1.0, "max_patches_per_slide": None}
    manifest.config = plain(cfg.data) | of_any_ladder | {"tissue": tissue_of(cfg).to_dict()}
    manifest.glass = {"slide": [240, 240, 240]}
    manifest.save(root / "data" / "demo")
    return root


@pytest.fixture(scope="module")
def trained(root):
    return load_trained(root / "runs", "zoom", wants_edm=True)


@pytest.fixture(scope="module")
def folder(root, trained, tmp_path_factory):
    target = tmp_path_factory.mktemp("packed") / "model"
    runs = [Run(root / "runs" / name) for name in ("ae", "zoom", "edm")]
    for run in runs:
        run.update(command="src/train.py model=toy")
        append_lines(run.folder / "perf.jsonl", [json.dumps({"elapsed_s": now}) for now in (900, 1800, 60, 3600)])
    trainings = [Training.of(run) for run in runs]
    sizes = packing.pack(source_of(trained), target, trainings=trainings, places=[str(root)])
    assert sizes == {name: (target / name).stat().st_size for name in sizes}
    return target


@pytest.fixture
def copy(folder, tmp_path):
    return Path(shutil.copytree(folder, tmp_path / "model"))


def load(folder, runs="runs", **wanted):
    return PackedModel(name="reference", folder=str(folder)).load(runs, **{"wants_edm": True, **wanted})


def compose(name: str, root: Path, folder: Path, *words: str):
    words = ("model=reference", f"model.folder={folder}", f"paths.root={root}", "sampling.steps=1", *words)
    return composing.compose_jobs(name, words)[0]


def test_what_is_packed_is_what_was_trained(folder, trained):
    loaded = load(folder)
    for before, after in ((trained.model, loaded.model), (trained.autoencoder, loaded.autoencoder)):
        state = after.module.state_dict()
        for name, tensor in before.module.state_dict().items():
            assert state[name].dtype == tensor.dtype
            torch.testing.assert_close(state[name], tensor, rtol=2**-10, atol=2**-24)
        assert after.step == before.step
    assert loaded.model.module.latent_scale == trained.model.module.latent_scale
    assert loaded.edm.module.num_tokens == trained.edm.module.num_tokens
    assert loaded.manifest.ladder == trained.manifest.ladder
    assert loaded.model.parents["autoencoder"] == loaded.autoencoder.sha256


def test_weights_are_halves_and_names_stay_behind(folder, root):
    for path in folder.glob("*.safetensors"):
        assert {tensor.dtype for tensor in load_file(path).values()} <= {torch.float16, torch.int64}
    text = (folder / "config.json").read_text() + (folder / "README.md").read_text()
    assert str(root) not in text
    assert "p0train" not in text
    assert '"slide":' not in text
    assert json.loads((folder / "config.json").read_text())["parts"].keys() == {"autoencoder", "zoomldm", "edm"}
    assert "| `python src/train.py model=toy` | 0 | 1.50 |" in (folder / "README.md").read_text()


@pytest.mark.parametrize("name", ["zoomldm.safetensors", "config.json", "README.md"])
def test_a_file_that_changed_by_one_byte_is_refused(copy, name):
    content = bytearray((copy / name).read_bytes())
    content[-2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(WeightsError, match=f"{name}: damaged"):
        load(copy)


def test_a_file_that_is_missing_is_refused(copy):
    (copy / "edm.safetensors").unlink()
    with pytest.raises(WeightsError, match="missing"):
        load(copy)


def test_a_configuration_cannot_bring_code(copy):
    from zoomldm.files import sha256_of

    config = json.loads((copy / "config.json").read_text())
    config["parts"]["zoomldm"]["config"]["cond"]["_target_"] = "shutil.rmtree"
    old = sha256_of(copy / "config.json")
    (copy / "config.json").write_text(json.dumps(config))
    sums = (copy / "SHA256SUMS").read_text().replace(old, sha256_of(copy / "config.json"))
    (copy / "SHA256SUMS").write_text(sums)
    with pytest.raises(ConfigError, match="allow_code"):
        load(copy)


def test_too_large_a_model_is_not_packed(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "LARGEST_BYTES", 1000)
    with pytest.raises(UserError, match="at most"):
        packing.pack(source_of(trained), tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_what_float16_does_not_hold_is_not_packed(tmp_path):
    module = torch.nn.Linear(1, 1)
    torch.nn.init.constant_(module.weight, 1e6)
    with pytest.raises(WeightsError, match="weight has values"):
        packing._save(module, tmp_path / "a.safetensors")


def test_sampling_needs_neither_runs_nor_data(folder, tmp_path, capsys):
    cfg = compose("sample", tmp_path, folder, "magnification=10", "n=2")
    sample.check(cfg)
    (sheet,) = sample.run(cfg)
    assert "brings no patches of its own: source=generated" in capsys.readouterr().out
    assert sheet.parent == tmp_path / "runs" / "reference" / "samples" / "generated-steps1-10x-seed0"
    patches = [np.asarray(Image.open(path)) for path in sorted(sheet.parent.glob("0*.png"))]
    assert [patch.shape for patch in patches] == [(32, 32, 3)] * 2


def test_a_picture_of_ones_own_is_embedded_as_its_data_set_was(folder, tmp_path):
    Image.fromarray(tissue_pixels(160, 160)).save(tmp_path / "mine.png")
    words = ("source=image", f"source.path={tmp_path / 'mine.png'}", "source.mpp=0.5", "magnification=10", "n=2")
    cfg = compose("sample", tmp_path, folder, *words)
    sample.check(cfg)
    (sheet,) = sample.run(cfg)
    assert len(list(sheet.parent.glob("0*.png"))) == 2


def test_real_conditions_come_from_a_data_set_that_is_named(folder, root):
    cfg = compose("sample", root, folder, "data=demo", "data.ladder.num_rungs=2", "magnification=10", "n=1")
    (sheet,) = sample.run(cfg)
    assert sheet.parent.name == "oracle-steps1-10x-seed0"


def test_it_is_evaluated_on_a_data_set_that_is_named(folder, root):
    words = ("data=demo", "data.ladder.num_rungs=2", "rows=[oracle,generated]", "metrics=[paired]", "tracking=none")
    cfg = compose("evaluate", root, folder, *words, "num_per_magnification=8")
    evaluate.check(cfg)
    evaluation = evaluate.run(cfg)
    assert (evaluation.run_name, evaluation.rows) == ("reference", ["oracle", "generated"])
    assert (root / "runs" / "reference" / "report" / "index.html").is_file()


@pytest.mark.parametrize(
    ("name", "words", "reason"),
    [
        ("sample", ["run=zoom"], "a whole model"),
        ("sample", ["weights=a.ckpt"], "a whole model"),
        ("sample", ["magnification=3"], "not on this ladder"),
        ("evaluate", ["run=zoom"], "a whole model"),
        ("evaluate", [], "name a data set"),
    ],
)
def test_what_makes_no_sense_beside_it_is_said(folder, tmp_path, name, words, reason):
    check = {"sample": sample.check, "evaluate": evaluate.check}[name]
    with pytest.raises(ConfigError, match=reason):
        check(compose(name, tmp_path, folder, *words))


def test_where_no_model_is_packed_the_message_says_how_to_make_one(tmp_path):
    with pytest.raises(WeightsError, match=r"src/reference.py"):
        sample.check(compose("sample", tmp_path, tmp_path / "none"))


def test_the_wheel_holds_every_file_of_the_model_that_ships(folder):
    import tomllib

    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())
    globs = project["tool"]["setuptools"]["package-data"]["zoomldm"]
    for path in folder.iterdir():
        assert any((Path("reference") / path.name).match(one) for one in globs), path.name
    assert SHIPPED == PROJECT_ROOT / "src" / "zoomldm" / "reference"
