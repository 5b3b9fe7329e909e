"""Encoders with weights: how tiles reach the network, what identifies an encoder, and what it warns of."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from zoomldm.config import CONF, option_of
from zoomldm.data.manifest import EncoderInfo
from zoomldm.encoder.base import Encoder, encode_in_batches
from zoomldm.encoder.ctranspath import build_ctranspath
from zoomldm.encoder.hipt import build_hipt, resize_positions
from zoomldm.encoder.vision import HALF, VisionEncoder, warn_of_mismatch
from zoomldm.errors import ConfigError, WeightsError
from zoomldm.files import sha256_of


class Corner(nn.Module):
    """Give the first and the last pixel of what the network sees."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x[:, :, 0, 0], x[:, :, -1, -1]], dim=1)


def corner_encoder(**change) -> VisionEncoder:
    sizes = {"name": "corner", "network": Corner(), "weights": None, "dim": 6, "input_px": 8, "normalisation": HALF}
    how = {"mpp": 0.5, "batch_size": 64, "device": "cpu", "licence": ""}
    return VisionEncoder(**(sizes | how | change))


def tiles(side: int, n: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def test_tile_of_the_right_side_is_only_normalised() -> None:
    x = tiles(8)
    expected = np.concatenate([x[:, 0, 0], x[:, -1, -1]], axis=1) / 127.5 - 1
    np.testing.assert_allclose(corner_encoder()(x), expected, atol=1e-6)


def test_crop_takes_the_centre_and_resize_does_not() -> None:
    x = tiles(12)
    middle = np.concatenate([x[:, 2, 2], x[:, 9, 9]], axis=1) / 127.5 - 1
    np.testing.assert_allclose(corner_encoder(fit="crop")(x), middle, atol=1e-6)
    assert np.abs(corner_encoder(fit="resize")(x) - middle).max() > 0.01


@pytest.mark.parametrize("fit", ["resize", "crop"])
def test_resizing_keeps_a_flat_tile_and_its_range(fit: str) -> None:
    flat = np.full((1, 5, 5, 3), 200, np.uint8)
    np.testing.assert_allclose(corner_encoder(fit=fit)(flat), 200 / 127.5 - 1, atol=1e-5)
    harsh = np.zeros((1, 20, 20, 3), np.uint8)
    harsh[:, ::2] = 255
    assert np.abs(corner_encoder(fit="resize")(harsh)).max() <= 1 + 1e-6


def test_warns_of_another_size_and_another_scale(caplog) -> None:
    encoder = corner_encoder(input_px=224, mpp=0.5)
    with caplog.at_level(logging.WARNING):
        assert warn_of_mismatch(encoder, tile_px=224, mpp=0.5) == []
        (line,) = warn_of_mismatch(encoder, tile_px=256, mpp=0.5)
        assert "sees 224 px, tiles have 256 px: they are resized" in line
        lines = warn_of_mismatch(encoder, tile_px=256, mpp=2.0)
    assert "trained at 0.5 mpp" in lines[1]
    assert len(caplog.messages) == 3
    assert "centre" in warn_of_mismatch(corner_encoder(fit="crop"), tile_px=256, mpp=0.5)[0]


@pytest.mark.parametrize(
    ("name", "build", "nest", "dim"),
    [("hipt", lambda: build_hipt(224), "teacher", 384), ("ctranspath", build_ctranspath, "model", 768)],
)
def test_published_file_makes_an_encoder(tmp_path: Path, name: str, build, nest: str, dim: int) -> None:
    network, path = build(), tmp_path / "weights.pth"
    for parameter in network.parameters():  # the builders leave them as memory has them, for weights to be loaded
        torch.nn.init.normal_(parameter, std=0.02)
    state = network.state_dict()
    if nest == "teacher":
        state = {f"backbone.{key}": value for key, value in state.items()} | {"head.last_layer.weight_g": torch.ones(3)}
    else:  # the original's patch merging belongs to the stage before
        state = {_stage_before(key): value for key, value in state.items()}
    torch.save({nest: state}, path)
    encoder = option_of("encoder", name, weights=path, batch_size=2).make(Encoder)
    vectors = encode_in_batches(encoder, tiles(256, 3))
    assert vectors.shape == (3, dim)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors[2], encoder(np.repeat(tiles(256, 3)[2:], 2, axis=0))[0], atol=1e-5)
    about = encoder.describe()
    assert about["weights_sha256"] == sha256_of(path)
    assert (about["dim"], about["input_px"]) == (dim, encoder.input_px)
    assert EncoderInfo(**about).weights_sha256 == about["weights_sha256"]  # what a manifest holds of it


def _stage_before(key: str) -> str:
    words = key.split(".")
    if words[2:3] == ["downsample"]:
        words[1] = str(int(words[1]) - 1)
    return ".".join(words)


def test_another_models_file_is_refused(tmp_path: Path) -> None:
    torch.save({"teacher": {"backbone.conv1.weight": torch.zeros(3, 3)}}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r"x\.pth: holds no HIPT"):
        option_of("encoder", "hipt", weights=tmp_path / "x.pth").make(Encoder)


def test_deeper_file_is_not_loaded_in_part(tmp_path: Path) -> None:
    import timm

    with torch.device("cpu"):
        deeper = timm.create_model("vit_small_patch16_224", num_classes=0, depth=13)
    torch.save({"teacher": {f"backbone.{k}": v for k, v in deeper.state_dict().items()}}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="depth: 13 in the file, 12 in the model"):
        option_of("encoder", "hipt", weights=tmp_path / "x.pth").make(Encoder)


def test_positions_of_the_same_size_are_kept() -> None:
    positions = torch.randn(1, 1 + 9, 4)
    assert resize_positions(positions, 3) is positions
    resized = resize_positions(positions, 4)
    assert resized.shape == (1, 17, 4)
    assert torch.equal(resized[:, 0], positions[:, 0])
    flat = torch.ones(1, 10, 4)
    torch.testing.assert_close(resize_positions(flat, 5), torch.ones(1, 26, 4))


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "encoder").glob("*.yaml")))
def test_every_option_names_an_encoder_and_says_its_licence(name: str) -> None:
    one = option_of("encoder", name)
    one.target(Encoder)
    assert one.name == name
    if name not in ("stats", "random"):
        assert one.arguments["licence"]
        with pytest.raises(ConfigError, match=r"encoder\.weights=PATH"):
            option_of("encoder", name, weights=None).make(Encoder)
        with pytest.raises(WeightsError, match="no such file"):
            option_of("encoder", name, weights="/nowhere").make(Encoder)


def test_tiles_unlike_the_training_are_warned_of(tmp_path: Path, caplog) -> None:
    caplog.set_level(logging.WARNING)
    torch.save({f"backbone.{key}": value for key, value in build_hipt(224).state_dict().items()}, tmp_path / "x.pth")
    hipt = option_of("encoder", "hipt", weights=tmp_path / "x.pth")
    encoder = hipt.make(Encoder, tile_px=256, tile_mpp=0.5)
    assert encoder.licence == "Apache 2.0 with Commons Clause (HIPT)"
    assert not caplog.messages
    hipt.given(tile_px=32, tile_mpp=0.5).make(Encoder)
    assert "sees 256 px, tiles have 32 px" in caplog.messages[0]
    assert "at 0.0625 mpp" in caplog.messages[1]


def test_stats_takes_the_statistics_of_the_data_set() -> None:
    statistics = {"mean": [0.0] * 24, "std": [2.0] * 24}
    assert option_of("encoder", "stats").make(Encoder, statistics=statistics, tile_px=32, tile_mpp=0.5).fitted
    assert not option_of("encoder", "stats").make(Encoder, statistics=None).fitted
