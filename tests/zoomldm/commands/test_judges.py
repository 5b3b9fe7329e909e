"""Any encoder judges under its own name, and tells whether patches follow the condition that it made."""

import pytest
import torch
from safetensors.torch import save_file

from tests.helpers.toy_runs import compose, make_toy_runs
from zoomldm.commands import evaluate
from zoomldm.encoder.timm_hub import build_vit
from zoomldm.errors import UserError

ARCHITECTURE, DIM = "vit_tiny_patch16_224", 192


def words(group: str, weights) -> list[str]:
    return [
        f"{group}.{key}={value}"
        for key, value in {
            "architecture": ARCHITECTURE,
            "dim": DIM,
            "weights": weights,
            "input_px": 32,
            "batch_size": 16,
        }.items()
    ]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Save small vision transformers of random weights as their publishers would: UNI has scales of its layers."""
    torch.manual_seed(0)
    saved = {}
    for name, arguments in (("uni", {"init_values": 1e-5}), ("dinov2", {})):
        saved[name] = tmp_path_factory.mktemp(name) / "model.safetensors"
        save_file(build_vit(ARCHITECTURE, input_px=32, swiglu=False, **arguments).state_dict(), saved[name])
    return saved


@pytest.fixture(scope="module")
def root(tmp_path_factory, weights):
    """Make runs over the grids of that encoder."""
    config = ("encoder=uni", *words("encoder", weights["uni"]))
    return make_toy_runs(tmp_path_factory.mktemp("judges"), dim=DIM, encoder="uni", words=config)


FEW = ("num_per_magnification=12", "sampling.steps=2", "rows=[halves,oracle,shuffled]")


@pytest.mark.parametrize(("judge", "flatters"), [("uni", True), ("dinov2", False)])
def test_an_encoder_judges_under_its_own_name(root, weights, judge, flatters):
    judge_words = [f"features={judge}", *words("features.encoder", weights[judge])]
    found = evaluate.run(compose("evaluate", root, *judge_words, *FEW))
    assert found.judge.distance_name == f"fd_{judge}"
    assert found.judge.dim == DIM
    assert found.judge.conditions_model is flatters
    assert found.cell("oracle", "20x").distance.value > 0
    assert (root / "runs" / "zoom" / "evaluation" / f"fd_{judge}.json").is_file()


def test_conditioning_fidelity_is_measured_by_the_encoder_of_the_run(root):
    found = evaluate.run(compose("evaluate", root, *FEW))
    fidelity = found.measured("fidelity")
    assert set(fidelity) == {"oracle", "shuffled"}
    assert -1 <= fidelity["oracle"]["20x"]["fidelity"].value <= 1
    assert not any("not at hand" in note for note in found.notes)


def test_without_the_weights_there_is_a_note_and_no_fidelity(root, tmp_path):
    missing = [f"encoder.weights={tmp_path / 'model.safetensors'}", "encoder=uni", "magnifications=[20]"]
    found = evaluate.run(compose("evaluate", root, *missing, *FEW, "seed=1"))
    assert found.measured("fidelity") == {}
    assert any("not at hand" in note for note in found.notes)


def test_patches_of_another_size_are_refused(root, tmp_path):
    from tests.helpers.toy_data import make_toy_data

    other = make_toy_data(tmp_path / "data" / "demo", train=(20, 20), test=(4, 4), patch_px=16, dim=DIM)
    with pytest.raises(UserError, match=r"patches of 16 px.*of 32 px"):
        evaluate.run(compose("evaluate", root, "data=demo", f"data.root={other.root}", *FEW))
