"""The default run name says what was chosen and nothing else."""

import re
from pathlib import Path

import pytest

from zoomldm.errors import ConfigError
from zoomldm.runs.identity import check_run_name, default_run_name, differing_keys, name_in_use
from zoomldm.runs.run import Run

DOCS = Path(__file__).parents[3] / "docs" / "training.md"
STEM = ["zoomldm_tiny", "demo", "film"]


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "zoomldm_tiny-demo-film"),
        (["cond=film", "fabric=cpu", "paths.runs=/x", "train.steps=5", "seed=0"], "zoomldm_tiny-demo-film"),
        (["seed=1"], "zoomldm_tiny-demo-film-seed=1"),
        (["training=single", "experiments/table1=single_0.625", "experiments=table1"], "zoomldm_tiny-demo-film"),
        (["optim.lr=2e-4", "curriculum=tempered"], "zoomldm_tiny-demo-film-curriculum=tempered-optim.lr=2e-4"),
    ],
)
def test_names(overrides, name):
    assert default_run_name(STEM, overrides) == name


def test_order_of_typing_does_not_matter():
    assert default_run_name(STEM, ["a=1", "b=2"]) == default_run_name(STEM, ["b=2", "a=1"])


def test_a_name_is_a_file_name():
    assert "/" not in default_run_name(STEM, ["unet.init=/weights/a b.ckpt"])


def test_paths_of_weight_files_are_no_part_of_a_name():
    words = ["autoencoder.weights=weights/vq-f4.ckpt", "unet.init=weights/cin256-v2.ckpt", "optim.lr=1"]
    assert default_run_name(STEM, words) == default_run_name(STEM, ["optim.lr=1"])
    assert "unet.init=null" in default_run_name(STEM, ["unet.init=null"])


def test_a_run_under_its_former_name_is_found(tmp_path):
    former = "zoomldm-brca_8mag-film-autoencoder.weights=weights_vq-f4.ckpt-unet.init=weights_cin256-v2.ckpt"
    new = "zoomldm-brca_8mag-film"
    (tmp_path / f"{former}-seed=1").mkdir()
    assert name_in_use(tmp_path, new) == new
    assert name_in_use(tmp_path, f"{new}-seed=1") == f"{former}-seed=1"
    (tmp_path / former).mkdir()
    assert name_in_use(tmp_path, new) == former
    (tmp_path / new).mkdir()
    assert name_in_use(tmp_path, new) == new


def test_what_the_docs_say_may_change_may_change():
    (sentence,) = re.findall(r"These keys may change between two starts: (.*?)\. ", DOCS.read_text().replace("\n", " "))
    keys = re.findall(r"`([a-z_.]+)`", sentence)
    assert {"fabric", "train.steps", "train.log_every", "train.validate_every"} <= set(keys)

    def nested(key, value):
        first, _, rest = key.partition(".")
        return {first: nested(rest, value) if rest else value}

    assert [key for key in keys if differing_keys(nested(key, 1), nested(key, 2))] == []


@pytest.mark.parametrize("name", ["../../x", "..", ".hidden", "a/b", "a\\b", "/x", ""])
def test_a_name_that_leads_elsewhere_is_refused(name, tmp_path):
    with pytest.raises(ConfigError, match="the name of a folder"):
        Run.open(tmp_path / "runs", name, {}, kind="edm", fresh=True)
    assert not list(tmp_path.iterdir())


def test_names_of_every_kind_are_kept():
    for name in (default_run_name(STEM, ["optim.lr=2e-4", "cond=film"]), "mine, the 2nd", "a..b"):
        check_run_name(name)
