"""sample.py with a published checkpoint instead of a run, and with every source and arrangement of a run's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers import toy_runs
from tests.helpers.originals import dit_file, official_file
from tests.helpers.toy_data import make_toy_data
from tests.helpers.toy_runs import make_toy_edm, make_toy_runs
from zoomldm import composing
from zoomldm.commands import sample
from zoomldm.errors import ConfigError, DataError, UserError


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("official")
    torch.save({"state_dict": official_file()}, folder / "weights.ckpt")
    torch.save(dit_file(), folder / "cdm.pt")
    return folder


def compose(files, *words):
    (cfg,) = composing.compose_jobs(
        "sample",
        [f"paths.root={files}", f"weights={files}/weights.ckpt", "magnification=10", "n=2", "sampling.steps=1", *words],
    )
    return cfg


def test_generated_conditions(files, capsys) -> None:
    cfg = compose(files, "source=generated", f"edm_weights={files}/cdm.pt")
    sample.check(cfg)
    (sheet,) = sample.run(cfg)
    assert sheet.parent == files / "runs" / "published-weights" / "samples" / "generated-steps1-10x-seed0"
    patches = sorted(sheet.parent.glob("0*.png"))
    assert len(patches) == 2
    assert Image.open(patches[0]).size == (128, 128)  # this small autoencoder halves once
    assert "exponential moving average" in capsys.readouterr().out


def test_conditions_of_real_patches_need_grids_of_uni(files) -> None:
    make_toy_data(files / "data" / "demo", train=(4, 4), test=(2, 2), patch_px=32, dim=24, latent_px=8)
    cfg = compose(files, "data=demo")
    sample.check(cfg)
    with pytest.raises(DataError, match="uni"):
        sample.run(cfg)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["source=generated"], "needs edm_weights="),
        (["source=oracle"], "needs data="),
        (["source=oracle", "run=x"], "give one of them"),
        (["source=generated", "edm_weights=/nowhere/cdm.pt"], "edm_weights=/nowhere/cdm.pt: no such file"),
    ],
)
def test_what_is_missing_is_said_first(files, words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        sample.check(compose(files, *words))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Make a data set and untrained runs: autoencoder, ZoomLDM, embedding diffusion model."""
    return make_toy_runs(tmp_path_factory.mktemp("sample"))


def sampled(root: Path, folder: Path, *words: str) -> np.ndarray:
    """Return the patches that sample.py writes at 10x."""
    words = ("run=zoom", "magnification=10", "sampling.steps=2", f"folder={folder}", *words)
    cfg = toy_runs.compose("sample", root, *words)
    sample.check(cfg)
    sample.run(cfg)
    return np.stack([np.asarray(Image.open(path)) for path in sorted((folder / "10x").glob("0*.png"))])


@pytest.mark.parametrize("words", [["source=oracle"], ["source=generated"], ["interpolate=3"], ["variations=2"]])
def test_a_patch_does_not_depend_on_the_size_of_batches(root, tmp_path, words):
    whole = sampled(root, tmp_path / "whole", "n=6", *words)
    for size in (1, 4):
        found = sampled(root, tmp_path / str(size), "n=6", f"batch_size={size}", *words)
        assert np.abs(found.astype(int) - whole).max() <= 1
    assert len({patch.tobytes() for patch in whole}) > 4


def test_variations_share_a_condition_and_a_strip_its_noise(root, tmp_path):
    sampled(root, tmp_path / "a", "n=4", "variations=2", "to=jsonl")
    facts = [json.loads(line) for line in (tmp_path / "a" / "10x" / "samples.jsonl").read_text().splitlines()]
    assert [one["conditions"][0]["number"] for one in facts] == [0, 0, 1, 1]
    assert [one["noise"] for one in facts] == [0, 1, 2, 3]
    assert facts[0]["conditions"][0]["key"] == facts[1]["conditions"][0]["key"]
    sampled(root, tmp_path / "b", "n=3", "interpolate=3", "to=jsonl")
    facts = [json.loads(line) for line in (tmp_path / "b" / "10x" / "samples.jsonl").read_text().splitlines()]
    assert [[part["part"] for part in one["conditions"]] for one in facts] == [[1.0], [0.5, 0.5], [1.0]]
    assert {one["noise"] for one in facts} == {0}


def test_guidance_by_magnification_and_in_an_interval(root, tmp_path):
    scale = "sampling.guidance_scale"
    both = sampled(root, tmp_path / "by", "n=2", f"{scale}={{default:1.75,10:4}}", "to=jsonl")
    assert np.array_equal(both, sampled(root, tmp_path / "one", "n=2", f"{scale}=4"))
    usual = sampled(root, tmp_path / "usual", "n=2")
    assert not np.array_equal(both, usual)
    inside = sampled(root, tmp_path / "inside", "n=2", "sampling.guidance_interval=[0,0.3]", "to=jsonl")
    assert not np.array_equal(inside, usual)
    said = {
        name: json.loads((tmp_path / name / "10x" / "samples.jsonl").read_text().splitlines()[0])
        for name in ("by", "inside")
    }
    assert said["by"]["guidance scale"] == 4.0
    assert "guidance interval" not in said["by"]
    assert said["inside"]["guidance interval"] == [0.0, 0.3]


def test_each_guidance_has_a_folder_of_its_own(root):
    asked = ["{default:1.75,10:4}", "{default:1.75,10:5}", "4"]
    words = [[f"sampling.guidance_scale={one}"] for one in asked] + [["sampling.guidance_interval=[0.2,0.8]"], []]
    words += [["source=generated", "edm=edm", "sampling.edm_guidance_scale={default:1,10:1.5}"]]
    for some in words:
        sample.run(toy_runs.compose("sample", root, "run=zoom", "n=1", "magnification=10", "sampling.steps=1", *some))
    folders = {path.name for path in (root / "runs" / "zoom" / "samples").iterdir()}
    assert folders == {
        "oracle-steps1-guidance1.75,10x4-10x-seed0",
        "oracle-steps1-guidance1.75,10x5-10x-seed0",
        "oracle-steps1-guidance4-10x-seed0",
        "oracle-steps1-interval0.2,0.8-10x-seed0",
        "oracle-steps1-10x-seed0",
        "generated-steps1-edm1,10x1.5-10x-seed0",
    }


def test_a_scene_is_shown_from_its_magnification_upwards(root, tmp_path):
    sampled(root, tmp_path, "n=2", "scene=true")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["10x", "20x", "scenes.png"]
    with pytest.raises(ConfigError, match="scene=true: conditions of source=generated have no place"):
        sampled(root, tmp_path / "none", "scene=true", "source=generated")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["source.split=val"], "expected train or test"),
        (["variations=0"], "variations=0: expected a whole number of 1 or more"),
        (["interpolate=1"], "2 or more"),
        (["interpolate=3", "variations=2"], "give one of them"),
        (["source=image"], r"needs source\.path="),
        (["source=slide"], r"needs source\.slide="),
        (["source=image", "source.path=none.png"], "No such file"),
        (["source=slide", "magnification=7"], "not on this ladder"),
    ],
)
def test_what_cannot_be_sampled_is_refused_and_nothing_written(root, tmp_path, words, said):
    with pytest.raises(UserError, match=said):
        sampled(root, tmp_path / "none", *words)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("word", "said"), [("conditions=oracle", "it is source"), ("split=test", r"it is source\.split")]
)
def test_former_keys_are_refused_with_their_names_of_today(root, word, said):
    with pytest.raises(ConfigError, match=said):
        toy_runs.compose("sample", root, word)


def test_patches_of_a_label_are_kept_apart_and_an_unknown_one_is_refused(root, tmp_path):
    make_toy_edm(root, "told", ("fat", "tumour"), "label=class", "label.file=tissue.csv", "label.column=tissue")
    words = ("n=3", "source=generated", "edm=told", "to=jsonl")
    any_tissue = sampled(root, tmp_path / "any", *words)
    fat, tumour = (sampled(root, tmp_path / name, *words, f"source.label={name}") for name in ("fat", "tumour"))
    assert all((one != other).any() for one, other in ((fat, tumour), (fat, any_tissue)))
    line = json.loads((tmp_path / "fat" / "10x" / "samples.jsonl").read_text().splitlines()[0])
    assert line["label"] == "fat"
    one = ("run=zoom", "magnification=10", "n=1", "sampling.steps=1", "source.label=fat")
    (sheet,) = sample.run(toy_runs.compose("sample", root, *one, *words[1:3]))
    assert sheet.parent.name == "generated-fat-steps1-10x-seed0"
    for asked, said in (
        ("fatt", "did you mean 'fat'.*fat or tumour"),
        ("[1,2]", "there is none of this tissue"),
    ):
        with pytest.raises(ConfigError, match=said):
            sampled(root, tmp_path / "none", *words, f"source.label={asked}")
    with pytest.raises(ConfigError, match="was told no labels"):
        sampled(root, tmp_path / "none", *words, "edm=edm", "source.label=fat")
    assert not (tmp_path / "none").exists()
