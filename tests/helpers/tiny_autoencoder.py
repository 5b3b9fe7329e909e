"""A tiny autoencoder and patches that it can learn."""

import torch

from zoomldm.data.batch import Batch
from zoomldm.model.autoencoder import Autoencoder

SIZES = {"channels": 4, "mult": (1, 2, 4), "num_res_blocks": 1, "latent_channels": 3, "num_codes": 32}
SIZES |= {"attention": False, "norm_groups": 2}


def build(cls=Autoencoder):
    torch.manual_seed(0)
    return cls(**SIZES)


def smooth_images(count, seed=0):
    """Make patches whose 4x4 blocks are constant, so that three principal components carry them."""
    colours = torch.randint(0, 256, (count, 3, 4, 4), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return colours.repeat_interleave(4, 2).repeat_interleave(4, 3)


def make_batch(count=8, first=0, seed=0):
    return Batch(
        sample_number=first + torch.arange(count),
        rung=torch.zeros(count, dtype=torch.long),
        image=smooth_images(count, seed),
    )
