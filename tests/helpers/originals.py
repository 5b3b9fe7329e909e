"""Small files in the layouts of the original authors, with the golden vectors' formula for weights."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.golden.analytic import weight
from zoomldm.model.autoencoder import VQAutoencoder
from zoomldm.model.kl import KLAutoencoder
from zoomldm.model.unet import build_unet
from zoomldm.weights.layout import Dims, Row
from zoomldm.weights.layout_published import dit_rows, summarizer_rows
from zoomldm.weights.layout_unet import ema_key, unet_rows
from zoomldm.weights.layout_vq import vq_rows

UNET_DIMS: Dims = {
    "in_channels": 3,
    "out_channels": 3,
    "model_channels": 32,
    "channel_mult": (1, 2),
    "num_res_blocks": 1,
    "attention": (False, True),
    "context_dim": 64,
    "transformer_depth": 1,
}
VQ_DIMS: Dims = {
    "image_channels": 3,
    "channels": 32,
    "channel_mult": (1, 2),
    "num_res_blocks": 1,
    "latent_channels": 3,
    "num_codes": 16,
    "code_dim": 3,
    "middle_attention": True,
    "attending_levels": (),
}
KL_DIMS: Dims = {key: value for key, value in VQ_DIMS.items() if key not in ("num_codes", "code_dim")}
SUMMARIZER_DIMS: Dims = {
    "grid_dim": 24,
    "width": 64,
    "depth": 2,
    "mlp_dim": 96,
    "num_tokens": 65,
    "num_rungs": 8,
}
DIT_DIMS: Dims = {"token_dim": 64, "num_tokens": 65, "width": 384, "depth": 1, "num_rungs": 8, "frequencies": 256}


def tensors_of(rows: list[Row], prefix: str = "") -> dict[str, Tensor]:
    return {prefix + row.source: weight(row.source, row.shape) for row in rows}


def small_unet(*, sample_size: int = 8, **change):
    """Build the U-Net of `UNET_DIMS`, some of them changed."""
    return build_unet(sample_size=sample_size, **({"num_heads": 1, "norm_groups": 32} | UNET_DIMS | change))


def small_vq(**change) -> VQAutoencoder:
    """Build the autoencoder of `VQ_DIMS`, some of them changed."""
    dims = VQ_DIMS | change
    names = {"mult": "channel_mult", "attention": "middle_attention"}
    same = ("channels", "num_res_blocks", "latent_channels", "num_codes")
    return VQAutoencoder(norm_groups=32, **{name: dims[names.get(name, name)] for name in (*names, *same)})


def small_kl(**change) -> KLAutoencoder:
    """Build the autoencoder of `KL_DIMS`, some of them changed."""
    dims = KL_DIMS | change
    names = {"mult": "channel_mult", "attention": "middle_attention"}
    same = ("channels", "num_res_blocks", "latent_channels")
    return KLAutoencoder(norm_groups=32, **{name: dims[names.get(name, name)] for name in (*names, *same)})


def unet_file(dims: Dims = UNET_DIMS, prefix: str = "model.diffusion_model.") -> dict[str, Tensor]:
    return tensors_of(unet_rows(dims), prefix)


def official_file(*, ema: float = 2.0) -> dict[str, Tensor]:
    """An official checkpoint in small: U-Net, its moving average (`ema` times the weights), autoencoder, summarizer."""
    tensors = {"betas": torch.zeros(1000), "sqrt_one_minus_alphas_cumprod": torch.zeros(1000)}
    tensors |= unet_file()
    tensors |= {ema_key(row.source): ema * weight(row.source, row.shape) for row in unet_rows(UNET_DIMS)}
    tensors |= {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(7)}
    tensors |= tensors_of(vq_rows(VQ_DIMS), "first_stage_model.")
    tensors["first_stage_model.loss.discriminator.main.0.weight"] = torch.zeros(4, 3, 4, 4)
    return tensors | tensors_of(summarizer_rows(SUMMARIZER_DIMS), "cond_stage_model.")


def dit_file() -> dict:
    """The condition model's file in small, without the command line that the original keeps beside it."""
    tensors = tensors_of(dit_rows(DIT_DIMS))
    return {"model": {k: torch.zeros_like(v) for k, v in tensors.items()}, "ema": tensors, "opt": {"state": {}}}
