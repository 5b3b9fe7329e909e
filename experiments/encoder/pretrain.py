"""Train the small vision transformer of encoder=mae_tiny on a data set's 20x patches: a masked autoencoder.

    python experiments/encoder/pretrain.py [data=data/pyramid] [weights=weights/mae_tiny] [steps=2000] [seed=0]

Three quarters of a patch's 64 tokens are hidden, and their pixels, each token's standardised, are predicted from the
rest (He et al. 2021, Masked Autoencoders Are Scalable Vision Learners; its blocks are those of the package lightly:
`pip install zoomldm[ssl]`). Patches are of the patients that are trained on. What is trained so far is kept beside the
weights, and the same command goes on there. The decoder is thrown away.

Legend: n patches, h w pixels.
"""

from __future__ import annotations

import importlib.util
import json
import math
import pickle
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

PROJECT_ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(PROJECT_ROOT / "src")]

from zoomldm.cli import key_values, user_errors, whole_number  # noqa: E402
from zoomldm.composing import compose_jobs  # noqa: E402
from zoomldm.data.manifest import Manifest  # noqa: E402
from zoomldm.data.reader import SampleSource  # noqa: E402
from zoomldm.encoder.timm_hub import build_vit  # noqa: E402
from zoomldm.errors import UserError  # noqa: E402
from zoomldm.files import held, open_atomically, write_atomically  # noqa: E402

MAGNIFICATION, BATCH, RATE, WARM_UP, HIDDEN = 20.0, 128, 1.5e-3, 200, 0.75
DECODER = {"embed_dim": 48, "depth": 2, "num_heads": 3}
KEPT_EVERY, SHOWN_EVERY = 500, 100


class MaskedAutoencoder(nn.Module):
    """The encoder's own network, and what predicts hidden pixels from its tokens.

    Args:
        recipe: the configuration of encoder=mae_tiny.
    """

    def __init__(self, recipe: Any) -> None:
        from lightly.models.modules import MaskedVisionTransformerTIMM
        from lightly.models.modules.masked_vision_transformer_decoder_timm import MaskedVisionTransformerDecoderTIMM

        super().__init__()
        self.vit = build_vit(recipe.architecture, input_px=recipe.input_px, swiglu=recipe.swiglu, **recipe.arguments)
        self.side = recipe.arguments.patch_size
        self.encoder = MaskedVisionTransformerTIMM(vit=self.vit)
        self.narrow = nn.Linear(self.vit.embed_dim, DECODER["embed_dim"])
        self.decoder = MaskedVisionTransformerDecoderTIMM(num_patches=self.vit.patch_embed.num_patches, **DECODER)
        self.pixels = nn.Linear(DECODER["embed_dim"], 3 * self.side**2)

    def forward(self, images: Tensor) -> Tensor:
        """Return the loss of images `n 3 h w` in [-1, 1] under masks drawn from torch's generator."""
        from lightly.models import utils

        size = (len(images), self.encoder.sequence_length)
        kept, hidden = utils.random_token_mask(size=size, mask_ratio=HIDDEN, device=images.device)  # numbers of tokens
        seen = self.narrow(self.encoder.encode(images, idx_keep=kept))
        tokens = utils.repeat_token(self.decoder.mask_token, size)
        tokens = self.decoder.decode(self.decoder.add_pos_embed(utils.set_at_index(tokens, kept, seen.type_as(tokens))))
        found = self.pixels(utils.get_at_index(tokens, hidden))
        wanted = utils.get_at_index(utils.patchify(images, self.side), hidden - 1)  # token 0 is the class token
        spread = wanted.var(-1, keepdim=True)
        return functional.mse_loss(found, (wanted - wanted.mean(-1, keepdim=True)) / (spread + 1e-6).sqrt())


def initial(recipe: Any, seed: int) -> MaskedAutoencoder:
    """Return an untrained one, ready to be trained."""
    torch.manual_seed(seed)
    return MaskedAutoencoder(recipe).train()


def rate_at(step: int, steps: int) -> float:
    """Return the part of the learning rate at a step: a warm-up, then half a cosine."""
    rise = min(1.0, (step + 1) / WARM_UP)
    return rise * 0.5 * (1 + math.cos(math.pi * step / steps))


def batch_at(source: SampleSource, rung: int, step: int, seed: int) -> Tensor:
    """Read a batch that seed and step choose, turned and mirrored: float32 `n 3 h w` in [-1, 1]."""
    rng = np.random.default_rng([seed, step])
    places = np.sort(rng.integers(int(source.counts[rung]), size=BATCH))  # in order: shards are read once
    images = source.read(np.full(BATCH, rung), places).image.float() / 127.5 - 1
    images = torch.rot90(images, int(rng.integers(4)), (2, 3))
    return images.flip(3) if rng.integers(2) else images


def trained(model: MaskedAutoencoder, source: SampleSource, rung: int, *, steps: int, seed: int, keep: Path) -> float:
    """Train on from what is kept; return the mean loss of the last steps shown."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.05)
    first, losses = 0, []
    if keep.is_file():
        try:
            kept = torch.load(keep, weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
            raise UserError(f"{keep}: is no whole state of a training; remove it, and begin anew") from None
        if (kept["steps"], kept["seed"]) != (steps, seed):
            raise UserError(f"{keep}: is of steps={kept['steps']} seed={kept['seed']}; name those, or remove it")
        model.load_state_dict(kept["model"])
        optimizer.load_state_dict(kept["optimizer"])
        first = kept["step"]
        print(f"going on from step {first}")
    began = time.monotonic()
    for step in range(first, steps):
        torch.manual_seed(seed * 10**6 + step)  # of the masks
        for group in optimizer.param_groups:
            group["lr"] = RATE * rate_at(step, steps)
        loss = model(batch_at(source, rung, step, seed))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        done = step + 1
        if done % SHOWN_EVERY == 0 or done == steps:
            pace = (done - first) / (time.monotonic() - began)
            shown = f"step {done}/{steps}  loss {np.mean(losses[-SHOWN_EVERY:]):.4f}"
            print(f"{shown}  {pace * BATCH:.0f} images/s  {(steps - done) / pace:.0f} s left", flush=True)
        if done % KEPT_EVERY == 0 and done < steps:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            with open_atomically(keep, "wb") as file:
                torch.save(state | {"step": done, "steps": steps, "seed": seed}, file)
    return float(np.mean(losses[-SHOWN_EVERY:]))


def main(argv: list[str]) -> None:
    """Train, and write the encoder's weights with what they were trained on.

    Raises:
        UserError: weights are there already or another process trains them, there is no such data set, or lightly is
            not installed.
    """
    given = key_values(argv, ("data", "weights", "steps", "seed"))
    if importlib.util.find_spec("lightly") is None:
        raise UserError(
            "masked autoencoding needs the package lightly, which is not installed: `pip install zoomldm[ssl]`"
        )
    (cfg,) = compose_jobs("prepare", ["encoder=mae_tiny"])
    root = Path(given.get("data", Path(cfg.paths.data) / "pyramid"))
    file = Path(given.get("weights", cfg.encoder.weights)) / "model.safetensors"
    steps, seed = whole_number("steps", given.get("steps", "2000"), 1), whole_number("seed", given.get("seed", "0"), 0)
    if file.is_file():
        raise UserError(f"{file}: is there already; remove it, or name another folder (weights=)")
    manifest = Manifest.load(root)
    if manifest.ladder.patch_px != cfg.encoder.input_px:
        side = manifest.ladder.patch_px
        raise UserError(f"data={root}: patches of {side} px; encoder=mae_tiny is for {cfg.encoder.input_px}")
    with held(file.parent.with_name(f".{file.parent.name}.lock"), f"{file}: another process trains it"):
        pretrained(initial(cfg.encoder, seed), manifest, file, steps=steps, seed=seed)


def pretrained(model: MaskedAutoencoder, manifest: Manifest, file: Path, *, steps: int, seed: int) -> None:
    """Train, or train on, and write the encoder's weights."""
    began, unfinished = time.process_time(), file.with_name("unfinished.pt")
    source = SampleSource(manifest, split="train", columns=("image",), magnifications=[MAGNIFICATION])
    rung = manifest.ladder.rung_of(MAGNIFICATION).index
    loss = trained(model, source, rung, steps=steps, seed=seed, keep=unfinished)
    about = {"data": manifest.name, "patches": int(source.counts[rung]), "steps": steps, "batch": BATCH, "seed": seed}
    about |= {"loss": round(loss, 4), "cpu_s": round(time.process_time() - began)}
    tensors = {key: tensor.contiguous() for key, tensor in model.vit.state_dict().items()}
    write_atomically(file, save(tensors, metadata={"zoomldm": json.dumps(about)}))
    unfinished.unlink(missing_ok=True)
    print(f"{file}: {json.dumps(about)}")


if __name__ == "__main__":
    with user_errors():
        main(sys.argv[1:])
