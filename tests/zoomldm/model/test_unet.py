"""The U-Net builder; the original's numbers are in tests/test_golden.py, its cost in test_cost.py."""

from __future__ import annotations

import pytest
import torch

from zoomldm.commands.cost import paper_unet
from zoomldm.model.unet import build_unet

TINY = {
    "sample_size": 8,
    "in_channels": 3,
    "model_channels": 32,
    "channel_mult": (1, 2),
    "num_res_blocks": 1,
    "attention": (False, True),
    "context_dim": 16,
    "num_heads": 1,
    "norm_groups": 32,
}


def test_shapes_and_gradients() -> None:
    unet = build_unet(**(TINY | {"num_heads": 4}))
    tokens = torch.randn(2, 5, 16, requires_grad=True)
    out = unet(torch.randn(2, 3, 8, 8), torch.tensor([0, 999]), encoder_hidden_states=tokens).sample
    assert out.shape == (2, 3, 8, 8)
    out.square().mean().backward()
    assert tokens.grad.abs().sum() > 0


def test_settings_that_leave_no_trace_in_shapes() -> None:
    with torch.device("meta"):
        unet = paper_unet()
    blocks = [m for m in unet.modules() if type(m).__name__ == "Attention"]
    assert {block.heads for block in blocks} == {1}
    assert len(unet.state_dict()) == 688
    assert unet.time_proj.flip_sin_to_cos
    assert {m.eps for name, m in unet.named_modules() if name.endswith((".norm1", ".norm2")) and "resnets" in name} == {
        1e-5
    }


@pytest.mark.parametrize(
    "change",
    [
        {"attention": (True,)},
        {"sample_size": 9},
        {"model_channels": 40},
        {"num_heads": 3},
    ],
)
def test_sizes_that_do_not_fit(change: dict) -> None:
    with pytest.raises(ValueError, match=r"levels|halved|divisible"):
        build_unet(**(TINY | change))
