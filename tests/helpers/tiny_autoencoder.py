"""A tiny autoencoder, the steps of its training, and patches that it can learn."""

import torch

from zoomldm.data.batch import Batch
from zoomldm.model.autoencoder import VQAutoencoder
from zoomldm.model.kl import KLAutoencoder, LinearStartKL

SIZES = {"channels": 4, "mult": (1, 2, 4), "num_res_blocks": 1, "latent_channels": 3, "num_codes": 32}
SIZES |= {"attention": False, "norm_groups": 2}


def build(cls=VQAutoencoder):
    torch.manual_seed(0)
    return cls(**SIZES)


def build_kl(cls=KLAutoencoder, **change):
    torch.manual_seed(0)
    sizes = {key: value for key, value in SIZES.items() if key != "num_codes"} | {"mult": (1, 2, 2)}
    return cls(**sizes | {"latent_channels": 3} | ({"noise": 0.1} if cls is LinearStartKL else {}) | change)


def stepped(trainable, step, *batches):
    """Make the forward passes of one step, a micro-batch each; the last one's output."""
    trainable.before_step(step)
    return [trainable(batch, seed=0) for batch in batches][-1]


def trained(trainable, num_steps=40):
    """Train for some steps, whose outputs are returned."""
    optimiser, outputs = torch.optim.AdamW(trainable.param_groups(), lr=2e-3), []
    for step in range(num_steps):
        outputs.append(stepped(trainable, step, make_batch(first=8 * step, seed=step)))
        outputs[-1]["loss_per_sample"].mean().backward()
        optimiser.step()
        optimiser.zero_grad()
    return outputs


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
