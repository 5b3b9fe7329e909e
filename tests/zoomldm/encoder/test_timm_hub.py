"""The adapter for published vision transformers, on small networks with the real recipes' features."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from zoomldm.encoder import timm_hub
from zoomldm.encoder.build import HUB_ENCODERS
from zoomldm.encoder.timm_hub import RECIPES, HubEncoder, Pooled, build_vit, from_transformers, load_vit
from zoomldm.errors import WeightsError

SMALL = {"depth": 2, "embed_dim": 48, "num_heads": 4}
DIMS = {"uni": 1024, "uni2_h": 1536, "virchow2": 2560, "h_optimus_0": 1536, "phikon_v2": 1024, "dinov2": 1024}
PARAMETERS_M = {"uni": 303.4, "uni2_h": 681.4, "virchow2": 631.2, "h_optimus_0": 1134.8, "phikon_v2": 303.4}


def small(name: str):
    recipe = RECIPES[name]
    return replace(recipe, arguments={**recipe.arguments, **SMALL})


@pytest.fixture
def small_recipes(monkeypatch) -> None:
    monkeypatch.setattr(timm_hub, "RECIPES", {name: small(name) for name in RECIPES})


def randomised(vit):
    torch.manual_seed(0)
    for parameter in vit.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return vit.eval()


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_the_published_networks(name: str) -> None:
    with torch.device("meta"):
        network = Pooled(build_vit(RECIPES[name]), RECIPES[name].pooling)
    assert network.dim == RECIPES[name].dim == DIMS[name]
    if name in PARAMETERS_M:
        assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(PARAMETERS_M[name], abs=0.1)


def test_every_recipe_has_an_option() -> None:
    assert set(RECIPES) == set(HUB_ENCODERS)


@pytest.mark.parametrize("name", RECIPES)
def test_local_folder_makes_an_encoder(tmp_path: Path, small_recipes, name: str) -> None:
    vit = randomised(build_vit(small(name)))
    save_file(vit.state_dict(), tmp_path / "model.safetensors")
    encoder = HubEncoder(name=name, weights=tmp_path)
    tiles = np.random.default_rng(0).integers(0, 256, (2, 256, 256, 3), dtype=np.uint8)
    vectors = encoder(tiles)
    assert vectors.shape == (2, encoder.dim)
    pixels = encoder.prepare(torch.from_numpy(tiles).movedim(-1, 1))
    with torch.no_grad():
        tokens = vit.forward_features(pixels)
    expected = tokens[:, 0]
    if name == "virchow2":
        expected = torch.cat([expected, tokens[:, 5:].mean(1)], dim=1)  # after the class token and four registers
    np.testing.assert_allclose(vectors, expected.numpy(), atol=2e-5)
    assert encoder.weights_sha256


def test_the_publishers_normalisation_is_used(tmp_path: Path, small_recipes) -> None:
    save_file(build_vit(small("h_optimus_0")).state_dict(), tmp_path / "model.safetensors")
    encoder = HubEncoder(name="h_optimus_0", weights=tmp_path)
    white = encoder.prepare(torch.full((1, 3, 224, 224), 255, dtype=torch.uint8))
    expected = [(1 - m) / s for m, s in zip((0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517))]
    torch.testing.assert_close(white[0, :, 0, 0], torch.tensor(expected))


def to_transformers(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Spell a timm vision transformer as transformers' Dinov2Model does."""
    renamed = {}
    for key, value in state.items():
        if ".attn.qkv." in key:
            block, kind = key.split(".")[1], key.split(".")[-1]
            for name, part in zip(("query", "key", "value"), value.chunk(3)):
                renamed[f"encoder.layer.{block}.attention.attention.{name}.{kind}"] = part
            continue
        for ours, theirs in (
            ("cls_token", "embeddings.cls_token"),
            ("pos_embed", "embeddings.position_embeddings"),
            ("patch_embed.proj.", "embeddings.patch_embeddings.projection."),
            ("blocks.", "encoder.layer."),
            (".attn.proj.", ".attention.output.dense."),
            (".ls1.gamma", ".layer_scale1.lambda1"),
            (".ls2.gamma", ".layer_scale2.lambda1"),
        ):
            key = key.replace(ours, theirs)
        renamed["layernorm." + key.removeprefix("norm.") if key.startswith("norm.") else key] = value
    return renamed | {"embeddings.mask_token": torch.zeros(1, 48)}


def test_keys_of_transformers_are_mapped(tmp_path: Path) -> None:
    vit, again = randomised(build_vit(small("phikon_v2"))), build_vit(small("phikon_v2"))
    spelt = to_transformers(vit.state_dict())
    assert set(from_transformers(spelt)) == set(vit.state_dict()) | {"mask_token"}
    path = tmp_path / "model.safetensors"
    save_file({key: value.contiguous() for key, value in spelt.items()}, path)
    load_vit(again, path)
    for key, value in vit.state_dict().items():
        assert torch.equal(value, again.state_dict()[key])


def test_keys_of_meta_with_registers_are_mapped(tmp_path: Path) -> None:
    """Meta's models give the class token a position of its own; timm adds it to the token."""
    recipe = small("h_optimus_0")
    vit = randomised(build_vit(recipe))
    state = vit.state_dict()
    position = torch.randn(1, 1, 48)
    spelt = {key.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3"): value for key, value in state.items()}
    spelt["register_tokens"] = spelt.pop("reg_token")
    spelt["pos_embed"] = torch.cat([position, state["pos_embed"]], dim=1)
    spelt["cls_token"] = state["cls_token"] - position
    torch.save(spelt | {"mask_token": torch.zeros(1, 48)}, tmp_path / "meta.pth")
    again = build_vit(recipe)
    load_vit(again, tmp_path / "meta.pth")
    for key, value in state.items():
        torch.testing.assert_close(value, again.state_dict()[key])


def test_positions_of_a_larger_image_are_resized(tmp_path: Path) -> None:
    larger = timm.create_model("vit_large_patch14_dinov2", img_size=518, num_classes=0, **SMALL)
    torch.save(larger.state_dict(), tmp_path / "x.pth")
    vit = build_vit(small("dinov2"))
    load_vit(vit, tmp_path / "x.pth")
    assert vit.pos_embed.shape[1] == 1 + 16 * 16
    assert torch.equal(vit.pos_embed[:, 0], larger.pos_embed[:, 0])


def test_wrong_files_are_refused(tmp_path: Path, small_recipes) -> None:
    save_file(build_vit(small("uni")).state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"(?s)model\.safetensors: does not fit.*reg_token.*its first keys are"):
        HubEncoder(name="uni2_h", weights=tmp_path)
    deeper = build_vit(replace(small("uni"), arguments={**small("uni").arguments, "depth": 3}))
    save_file(deeper.state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match="tensors that this encoder has no place for"):
        HubEncoder(name="uni", weights=tmp_path)
