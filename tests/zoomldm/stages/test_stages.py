"""The stages as train.py runs them, in bfloat16 as on a GPU: they train, go on, and know their parents."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers.toy_data import make_toy_data
from zoomldm import cli, composing
from zoomldm.commands.check import check_train, stage_in
from zoomldm.commands.train import train
from zoomldm.data.manifest import Manifest
from zoomldm.errors import ConfigError, DataError, UserError
from zoomldm.launch.fabric import Autocast
from zoomldm.runs.checkpoint import Checkpoints, newest_model
from zoomldm.runs.run import Run
from zoomldm.stages.loaded import load_autoencoder, load_edm, load_zoomldm
from zoomldm.stages.trained import load_trained

ADVERSARY = "_target_: zoomldm.model.adversarial.Adversary, weight: 0.5, start_steps: 1, channels: 8, num_layers: 1"
THREE = "model.latent_channels=3"
SIZES = {
    "ae": ["model=autoencoder_vq_tiny", "model.num_codes=64", "model.loss.start_steps=1", "optim.batch_size=8"],
    "kl": ["model=autoencoder_tiny", f"model.loss.adversarial={{{ADVERSARY}}}", "optim.batch_size=8"],
    "zoom": ["model=zoomldm_tiny", "autoencoder.run=ae", THREE, "unet.model_channels=16", "optim.batch_size=8"],
    "parent": [
        "model=zoomldm_zoom_tiny",
        "model.init_run=zoom",
        "model.parent.probability=0.9",
        "autoencoder.run=ae",
        THREE,
        "unet.model_channels=16",
        "optim.batch_size=8",
    ],
    "edm": ["model=edm_tiny", "zoomldm.run=zoom", THREE, "model.width=16", "model.depth=1", "optim.batch_size=8"],
}


def job(root, name, *words):
    common = ["tracking=none", "fabric=cpu", "data.ladder.num_rungs=2", "train.log_every=1", "train.validate_every=2"]
    common += ["train.steps=4", "train.checkpoint_every=2", "train.validation_samples=4", "train.sample_every=4"]
    common += ["train.recalibration_samples=16", "fabric.precision=bf16-mixed", "optim.max_micro_batch=8"]
    (cfg,) = composing.compose_jobs("train", [f"paths.root={root}", f"run_name={name}", *SIZES[name], *common, *words])
    return cfg


def set_latents(root, **facts) -> None:
    manifest = Manifest.load(root / "data" / "demo")
    latent = manifest.columns["latent"] | {"scale": 1.0, "source": "ae"} | facts
    replace(manifest, columns=manifest.columns | {"latent": latent}).save(manifest.root)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Train the three stages one after the other."""
    root = tmp_path_factory.mktemp("stages")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PROJECT_ROOT", str(cli.PROJECT_ROOT))
        make_toy_data(root / "data" / "demo", train=(40, 24), test=(8, 8), patch_px=32, dim=24, latent_px=8)
        train(job(root, "ae"), [], [])
        train(job(root, "kl"), [], [])
        set_latents(root, autoencoder_sha256=newest_model(root / "runs" / "ae").model_sha256)
        train(job(root, "zoom"), [], [])
        train(job(root, "parent"), [], [])
        train(job(root, "edm"), [], [])
    return root


@pytest.fixture(autouse=True)
def project_root(monkeypatch):
    monkeypatch.setenv("PROJECT_ROOT", str(cli.PROJECT_ROOT))


@pytest.mark.parametrize("name", list(SIZES))
def test_a_run_in_bfloat16_goes_on_to_the_last_bit(root, tmp_path, name):
    straight, resumed = root / "runs" / name, root / "runs" / f"{name}-again"
    shutil.copytree(straight, resumed)
    shutil.rmtree(resumed / "checkpoints" / "step-00000004")
    Run(resumed).update(status="stopped", step=2)
    train(job(root, name, f"run_name={name}-again"), [], [])
    assert (resumed / "metrics.jsonl").read_bytes() == (straight / "metrics.jsonl").read_bytes()
    a, b = (load_file(run / "checkpoints/step-00000004/model.safetensors") for run in (straight, resumed))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
    shutil.rmtree(resumed)


def test_a_run_in_float32_is_another(root):
    """Otherwise the precision was not in use."""
    train(job(root, "zoom", "run_name=zoom32", "fabric.precision=32", "train.steps=1"), [], [])
    first = [(root / "runs" / name / "metrics.jsonl").read_text().splitlines()[0] for name in ("zoom", "zoom32")]
    a, b = (json.loads(line)["value"] for line in first)
    assert a != b
    assert a == pytest.approx(b, rel=0.02)
    shutil.rmtree(root / "runs" / "zoom32")


def test_inputs_are_left_as_they_are():
    batch = torch.ones(3, dtype=torch.float16)
    assert Autocast("bf16-mixed", "cpu").convert_input(batch) is batch


def test_pictures_are_drawn_of_autoencoders_and_zoomldms(root):
    drawn = {path.parent.parent.name for path in (root / "runs").glob("*/samples/step-00000004.png")}
    assert drawn == {"ae", "kl", "zoom", "parent"}


def test_checkpoints_name_their_parents(root):
    infos = {name: newest_model(root / "runs" / name) for name in SIZES}
    data = Manifest.load(root / "data" / "demo")
    assert infos["ae"].parents == {"data": data.identity(["image"])}
    assert infos["zoom"].parents["autoencoder"] == infos["ae"].model_sha256
    assert infos["edm"].parents["zoomldm"] == infos["zoom"].model_sha256
    assert infos["parent"].parents["init"] == infos["zoom"].model_sha256
    assert infos["parent"].parents["data"] == data.identity(["image", "latent", "grid"])


def test_trained_models_are_loaded_with_what_identifies_them(root):
    runs = root / "runs"
    zoom = load_zoomldm(runs, "zoom", num_rungs=2, grid_dim=24)
    edm, autoencoder = load_edm(runs, "edm"), load_autoencoder(runs, run="ae", weights=None)
    kl = load_autoencoder(runs, run="kl", weights=None)
    assert kl.module.latent_shape(32) == (8, 8, 8)
    assert (zoom.step, zoom.run_name, zoom.config["cond"]["name"]) == (4, "zoom", "film")
    assert edm.parents["zoomldm"] == zoom.as_parent.sha256
    assert zoom.parents["autoencoder"] == autoencoder.sha256
    assert not any(loaded.module.training for loaded in (zoom, edm, autoencoder))
    with pytest.raises(UserError, match="run of zoomldm; expected one of edm"):
        load_edm(runs, "zoom")
    with pytest.raises(ConfigError, match="both null"):
        load_autoencoder(runs, run=None, weights=None)


def test_a_model_that_is_told_the_level_above_starts_from_the_run_that_is_named(root):
    start = load_zoomldm(root / "runs", "zoom", num_rungs=2, grid_dim=24).module.state_dict()
    model = stage_in(job(root, "parent")).build(Manifest.load(root / "data" / "demo"))
    own = model.state_dict()
    assert own["unet.conv_in.weight"].shape[1] == 3 + model.told_planes == 16
    assert torch.equal(own["unet.conv_in.weight"][:, :3], start["unet.conv_in.weight"])
    assert all(torch.equal(own[name], start[name]) for name in start.keys() - {"unet.conv_in.weight"})
    trained = load_zoomldm(root / "runs", "parent", num_rungs=2, grid_dim=24).module
    assert trained.unet.conv_in.weight[:, 3:].abs().max() > 0
    kept = {name: value for name, value in start.items() if name.startswith("conditioner")}
    assert all(torch.equal(trained.state_dict()[name], value) for name, value in kept.items())


def test_the_tokens_of_a_kept_conditioner_are_those_that_its_own_edm_learnt(root):
    trained = load_trained(root / "runs", "parent", wants_edm=True)
    assert trained.edm.run_name == "edm"
    assert trained.edm.parents["zoomldm"] == trained.model.parents["init"]
    with pytest.raises(ConfigError, match=r"zoomldm\.run=parent: keeps the conditioner of zoom, .* name that one"):
        check_train(job(root, "edm", "zoomldm.run=parent"))


def test_a_start_from_two_models_is_refused(root):
    with pytest.raises(ConfigError, match="starts from one of them"):
        check_train(job(root, "parent", "unet.init=x.ckpt"))


def retrained(folder) -> None:
    """Give a run's checkpoint other weights, as a longer training under the same name does."""
    checkpoints = Checkpoints(folder / "checkpoints")
    info, state = checkpoints.info(4), checkpoints.load_state(4)
    weights = load_file(checkpoints.path(4) / "model.safetensors")
    checkpoints.save(replace(info, step=6), state, {key: value + 1 for key, value in weights.items()})


@pytest.fixture
def copied(root, tmp_path):
    shutil.copytree(root, tmp_path / "copy")
    return tmp_path / "copy"


def test_latents_of_a_former_state_of_the_autoencoder_are_refused_with_the_command(copied):
    retrained(copied / "runs" / "ae")
    cfg = job(copied, "zoom", "run_name=zoom2")
    with pytest.raises(
        UserError, match=r"which was trained on or made anew since; make it again with `python data_prep/"
    ):
        train(cfg, [], [])
    assert not (copied / "runs" / "zoom2").exists()


def test_an_edm_does_not_go_on_with_another_state_of_its_zoomldm(copied):
    retrained(copied / "runs" / "zoom")
    with pytest.raises(UserError, match=r"run edm was made with other weights of its zoomldm .*fresh=true"):
        train(job(copied, "edm", "train.steps=6"), [], [])
    with pytest.raises(UserError, match=r"run edm was made with other weights"):
        train(job(copied, "edm"), [], [])  # also where there would be nothing to do


def test_a_run_begins_at_anothers_checkpoint_with_other_settings(copied, capsys):
    words = ["from=zoom", "run_name=second", "optim.lr=1e-4", "train.steps=5"]
    train(job(copied, "zoom", *words), words, [])
    assert "[second] beginning at step 4 of run zoom; the learning rate there is" in capsys.readouterr().out
    second = Run(copied / "runs" / "second")
    assert second.config["from"] == "zoom@4"
    parents = newest_model(second.folder).parents
    assert parents["from"] == newest_model(copied / "runs" / "zoom").model_sha256
    train(job(copied, "zoom", *words, "train.log_every=2"), words, [])
    assert "finished at step 5; nothing to do" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="from: zoom@4 in the run, None now"):
        train(job(copied, "zoom", *words[1:]), words[1:], [])


def test_a_beginning_that_makes_no_sense_is_refused(copied):
    with pytest.raises(UserError, match=r"from=zoom@4: train\.steps=4 lies not beyond it"):
        train(job(copied, "zoom", "from=zoom@4", "run_name=b"), [], [])
    with pytest.raises(UserError, match="from=ae: run ae is a run of autoencoder; expected one of zoomldm"):
        train(job(copied, "zoom", "from=ae", "run_name=c"), [], [])
    with pytest.raises(UserError, match=r"another network \(.*: unet\.model_channels \(16 there, 32 now"):
        train(job(copied, "zoom", "from=zoom", "run_name=d", "train.steps=6", "unet.model_channels=32"), [], [])


def test_a_cosine_run_is_lengthened_only_as_a_new_run(copied):
    with pytest.raises(
        ConfigError, match=r"train\.steps was 4 and is 200 now.*at step 4 the rate would jump from"
    ) as caught:
        train(job(copied, "zoom", "train.steps=200", "optim.warmup_steps=50"), [], [])
    assert "from=zoom@4 run_name=…" in str(caught.value)


def test_what_is_missing_is_said_with_the_command(copied):
    set_latents(copied, shape=[3, 4, 4])
    with pytest.raises(DataError, match=r"latents of shape \[3, 4, 4\], model=zoomldm_tiny takes \[3, 8, 8\]"):
        stage_in(job(copied, "zoom")).parents(Manifest.load(copied / "data" / "demo"))
    set_latents(copied, source="other", autoencoder_sha256=None)
    with pytest.raises(UserError, match=r"autoencoder other, not with ae .*latents\.py data=demo autoencoder\.run=ae"):
        stage_in(job(copied, "zoom")).parents(Manifest.load(copied / "data" / "demo"))
    manifest = Manifest.load(copied / "data" / "demo")
    del manifest.columns["latent"]
    with pytest.raises(DataError, match=r"no latents yet; make them with `python data_prep/latents\.py"):
        stage_in(job(copied, "zoom")).parents(manifest)


def test_a_run_without_grids_reads_none(root):
    assert stage_in(job(root, "zoom", "cond=none")).columns == ("latent",)
    assert stage_in(job(root, "zoom")).columns == ("latent", "grid")


def test_labels_are_a_parent_by_what_they_say(root, tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("slide,kind\ns0.train,a\ns1.train,b\n")
    words = ("run_name=told", "label=class", f"label.file={table}", "label.column=kind")
    train(job(root, "edm", *words), [], [])
    info = newest_model(root / "runs" / "told")
    assert info.parents["labels"] == stage_in(job(root, "edm", *words)).labels.sha256
    assert load_edm(root / "runs", "told").module.label.names == ("a", "b")
    elsewhere = tmp_path / "moved.csv"
    table.rename(elsewhere)
    train(job(root, "edm", *words[:2], f"label.file={elsewhere}", words[3], "train.steps=6"), [], [])
    elsewhere.write_text("slide,kind\ns0.train,b\ns1.train,a\n")
    with pytest.raises(UserError, match=r"with other labels .*: what label\.file says"):
        train(job(root, "edm", *words[:2], f"label.file={elsewhere}", words[3], "train.steps=8"), [], [])
    assert "labels" not in newest_model(root / "runs" / "edm").parents
    shutil.rmtree(root / "runs" / "told")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model=edm_dit", "label=class", "label.file=x", "label.column=y"], "this network is told no labels"),
        (["label=class", "label.column=y"], "label.file is not set: give where the labels are"),
        (["label=vector", "label.file=nowhere.csv", "label.columns=[a]"], "nowhere.csv: no such file"),
    ],
)
def test_labels_that_cannot_be_learnt_are_refused_first(root, words, said):
    with pytest.raises(ConfigError, match=said):
        check_train(job(root, "edm", *words))
