"""The default run name says what was chosen and nothing else."""

import pytest

from zoomldm.runs.identity import default_run_name

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
