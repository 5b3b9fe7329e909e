"""sample.py with a published checkpoint instead of a run."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from tests.helpers.originals import dit_file, official_file
from tests.helpers.toy_data import make_toy_data
from zoomldm import composing
from zoomldm.commands import sample
from zoomldm.errors import ConfigError, DataError


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
    cfg = compose(files, "conditions=generated", f"edm_weights={files}/cdm.pt")
    sample.check(cfg)
    (sheet,) = sample.run(cfg)
    assert sheet.parent == files / "runs" / "published-weights" / "samples" / "generated-10x-seed0"
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
        (["conditions=generated"], "needs edm_weights="),
        (["conditions=oracle"], "needs data="),
        (["conditions=oracle", "run=x"], "give one of them"),
        (["conditions=generated", "edm_weights=/nowhere/cdm.pt"], "edm_weights=/nowhere/cdm.pt: no such file"),
    ],
)
def test_what_is_missing_is_said_first(files, words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        sample.check(compose(files, *words))
