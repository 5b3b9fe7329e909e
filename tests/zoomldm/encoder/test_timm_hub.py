"""The adapter for published vision transformers, on small networks with the real recipes' features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from zoomldm.config import Option, section_of
from zoomldm.encoder.base import Encoder
from zoomldm.encoder.timm_hub import Pooled, build_vit, from_transformers, load_vit
from zoomldm.errors import ConfigError, WeightsError

SMALL = {"depth": 2, "embed_dim": 48, "num_heads": 4}
DIMS = {"uni": 1024, "uni2_h": 1536, "virchow2": 2560, "h_optimus_0": 1536, "phikon_v2": 1024, "dinov2": 1024}
PARAMETERS_M = {"uni": 303.4, "uni2_h": 681.4, "virchow2": 631.2, "h_optimus_0": 1134.8, "phikon_v2": 303.4}


def recipe(name: str, **change) -> dict:
    """Return an option's section, its network changed."""
    section = section_of("encoder", name)
    return section | {"arguments": {**section["arguments"], **change}}


def vit_of(section: dict):
    return build_vit(
        section["architecture"], input_px=section["input_px"], swiglu=section["swiglu"], **section["arguments"]
    )


def small(name: str):
    return vit_of(recipe(name, **SMALL))


def small_encoder(name: str, weights: Path) -> Encoder:
    section = recipe(name, **SMALL) | {"weights": weights, "dim": 96 if name == "virchow2" else 48}
    return Option("encoder", section).make(Encoder)


def randomised(vit):
    torch.manual_seed(0)
    for parameter in vit.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return vit.eval()


@pytest.mark.parametrize("name", DIMS)
def test_recipes_are_the_published_networks(name: str) -> None:
    with torch.device("meta"):
        network = Pooled(vit_of(recipe(name)), recipe(name)["pooling"])
    assert network.dim == recipe(name)["dim"] == DIMS[name]
    if name in PARAMETERS_M:
        assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(PARAMETERS_M[name], abs=0.1)


def test_another_width_than_the_yaml_says_is_refused(tmp_path: Path) -> None:
    save_file(small("uni").state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match=r"encoder\.dim=1024: vit_large_patch16_224 makes 48"):
        Option("encoder", recipe("uni", **SMALL) | {"weights": tmp_path}).make(Encoder)


def test_the_mean_of_patch_tokens_is_a_vector_too() -> None:
    vit, tiles = randomised(vit_of(recipe("mae_tiny"))), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(Pooled(vit, "mean")(tiles), vit.forward_features(tiles)[:, 1:].mean(1))


@pytest.mark.parametrize("name", DIMS)
def test_local_folder_makes_an_encoder(tmp_path: Path, name: str) -> None:
    vit = randomised(small(name))
    save_file(vit.state_dict(), tmp_path / "model.safetensors")
    encoder = small_encoder(name, tmp_path)
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


def test_the_publishers_normalisation_is_used(tmp_path: Path) -> None:
    save_file(small("h_optimus_0").state_dict(), tmp_path / "model.safetensors")
    encoder = small_encoder("h_optimus_0", tmp_path)
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
    vit, again = randomised(small("phikon_v2")), small("phikon_v2")
    spelt = to_transformers(vit.state_dict())
    assert set(from_transformers(spelt)) == set(vit.state_dict()) | {"mask_token"}
    path = tmp_path / "model.safetensors"
    save_file({key: value.contiguous() for key, value in spelt.items()}, path)
    load_vit(again, path)
    for key, value in vit.state_dict().items():
        assert torch.equal(value, again.state_dict()[key])


def test_keys_of_meta_with_registers_are_mapped(tmp_path: Path) -> None:
    """Meta's models give the class token a position of its own; timm adds it to the token."""
    vit = randomised(small("h_optimus_0"))
    state = vit.state_dict()
    position = torch.randn(1, 1, 48)
    spelt = {key.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3"): value for key, value in state.items()}
    spelt["register_tokens"] = spelt.pop("reg_token")
    spelt["pos_embed"] = torch.cat([position, state["pos_embed"]], dim=1)
    spelt["cls_token"] = state["cls_token"] - position
    torch.save(spelt | {"mask_token": torch.zeros(1, 48)}, tmp_path / "meta.pth")
    again = small("h_optimus_0")
    load_vit(again, tmp_path / "meta.pth")
    for key, value in state.items():
        torch.testing.assert_close(value, again.state_dict()[key])


def test_positions_of_a_larger_image_are_resized(tmp_path: Path) -> None:
    larger = timm.create_model("vit_large_patch14_dinov2", img_size=518, num_classes=0, **SMALL)
    torch.save(larger.state_dict(), tmp_path / "x.pth")
    vit = small("dinov2")
    load_vit(vit, tmp_path / "x.pth")
    assert vit.pos_embed.shape[1] == 1 + 16 * 16
    assert torch.equal(vit.pos_embed[:, 0], larger.pos_embed[:, 0])


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    save_file(small("uni").state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"(?s)model\.safetensors: does not fit.*reg_token.*its first keys are"):
        small_encoder("uni2_h", tmp_path)
    deeper = vit_of(recipe("uni", **SMALL | {"depth": 3}))
    save_file(deeper.state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match="tensors that this encoder has no place for"):
        small_encoder("uni", tmp_path)
