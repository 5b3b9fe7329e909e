"""The cost of every model at the paper's size (parameters and multiply-adds), counted without allocating anything."""

from __future__ import annotations

import pytest

from zoomldm.commands import cost


@pytest.fixture(scope="module")
def unet() -> cost.Cost:
    return cost.unet_cost()


def test_unet(unet: cost.Cost) -> None:
    assert unet.parameters == 400_920_579
    # 72.1 in convolutions, 28.3 in linear layers, 4.8 in the products of attention; the design quotes 103.6
    assert unet.macs / 1e9 == pytest.approx(105.3, abs=0.1)
    assert unet.macs / 1e9 == pytest.approx(103.6, rel=0.02)


def test_autoencoder() -> None:
    encode, decode = cost.autoencoder_costs()
    assert encode.parameters == decode.parameters == 55_322_782
    assert encode.macs < decode.macs


def test_encoders() -> None:
    hipt, ctranspath = cost.encoder_costs()
    assert hipt.parameters / 1e6 == pytest.approx(21.67, abs=0.005)
    assert ctranspath.parameters / 1e6 == pytest.approx(27.5, abs=0.05)


@pytest.mark.parametrize("side", [1, 16, 128])
def test_summarizer_stays_below_a_tenth_of_the_unet(unet: cost.Cost, side: int) -> None:
    summarizer = cost.summarizer_cost(side)
    assert summarizer.macs < unet.macs / 10
    assert summarizer.parameters < unet.parameters / 10


def test_all_channels_without_a_projection_stay_below_a_tenth_of_the_unet(unet: cost.Cost) -> None:
    summarizer = cost.summarizer_cost(projection=384)
    assert summarizer.macs < unet.macs / 10
    assert summarizer.macs > 1.5 * cost.summarizer_cost().macs


def test_bound_can_be_broken(unet: cost.Cost) -> None:
    assert cost.summarizer_cost(widths=(384, 512, 512, 512)).macs > unet.macs / 10


def test_summarizer_memory_at_the_papers_batch() -> None:
    """Activations kept for the backward pass at 200 grids of 128×128×384: far from the 2.5 GB of the input alone."""
    stored = cost.summarizer_memory(batch_size=200)
    assert stored.input_bytes == 200 * 128 * 128 * 384 * 2
    assert stored.activation_bytes < 16e9


def test_condition_models_are_cheap_beside_the_unet(unet: cost.Cost) -> None:
    for model in [*cost.token_model_costs(), cost.vit_summarizer_cost()]:
        assert model.macs < unet.macs / 10


def test_summary_has_a_line_for_every_model() -> None:
    text = cost.summary()
    for name in ("U-Net", "VQ-f4", "summarizer (film)", "summarizer (vit)", "EDM", "HIPT", "CTransPath"):
        assert name in text
    assert "400.92" in text
