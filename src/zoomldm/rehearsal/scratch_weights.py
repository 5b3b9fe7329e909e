"""Weight files of random values in the published files' layouts and sizes, for what the user has not brought yet.

Only the rehearsal writes them, into a folder of its own; they make no picture that means anything.
"""

from __future__ import annotations

import math
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from zoomldm.features.inception import FILE_NAMES
from zoomldm.weights.families import CLASS_EMBEDDING_KEY
from zoomldm.weights.layout import Row, Shape
from zoomldm.weights.layout_encoders import HIPT_DIMS, vit_rows
from zoomldm.weights.layout_unet import unet_rows
from zoomldm.weights.layout_vq import vq_rows

CIN256 = {
    "in_channels": 3, "out_channels": 3, "model_channels": 192, "channel_mult": (1, 2, 3, 5), "num_res_blocks": 2,
    "attention": (False, True, True, True), "context_dim": 512, "transformer_depth": 1,
}  # fmt: skip
VQ_F4 = {
    "image_channels": 3, "channels": 128, "channel_mult": (1, 2, 4), "num_res_blocks": 2, "latent_channels": 3,
    "num_codes": 8192, "code_dim": 3, "middle_attention": True,
}  # fmt: skip
INCEPTION_BYTES = 96_000_000
BYTES_A_NUMBER = 4


@dataclass(frozen=True)
class ScratchFile:
    """One weight file of the paper's model.

    Attributes:
        name: under ``paths.weights``, as docs/weights.md has it.
        shapes: of its tensors, by their keys in the file; empty where a library makes the network.
    """

    name: str
    shapes: Mapping[str, Shape]

    @property
    def size(self) -> int:
        """Bytes that writing it takes."""
        return BYTES_A_NUMBER * sum(map(math.prod, self.shapes.values())) or INCEPTION_BYTES


def _shapes(rows: Sequence[Row], prefix: str = "") -> dict[str, Shape]:
    return {prefix + row.source: row.shape for row in rows}


FILES = (
    ScratchFile("vq-f4.ckpt", _shapes(vq_rows(VQ_F4))),
    ScratchFile(
        "cin256-v2.ckpt", _shapes(unet_rows(CIN256), "model.diffusion_model.") | {CLASS_EMBEDDING_KEY: (1001, 512)}
    ),
    ScratchFile("vit256_small_dino.pth", _shapes(vit_rows(HIPT_DIMS), "teacher.backbone.")),
    ScratchFile(FILE_NAMES[0], {}),
)
"""What the documented commands of the paper's size read."""


def missing_files(weights: Path, scratch: Path) -> list[ScratchFile]:
    """Return the files that are neither in the user's folder nor written yet."""
    return [one for one in FILES if not (weights / one.name).exists() and not (scratch / one.name).exists()]


def gather_weights(
    weights: Path, scratch: Path, *, files: Sequence[ScratchFile] = FILES, say: Callable[[str], None] = print
) -> list[str]:
    """Fill ``scratch`` with every file: a link to the user's where there is one, else random values.

    Returns:
        the names of the random ones.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    drawn = []
    for one in files:
        target, own = scratch / one.name, (weights / one.name).resolve()
        if own.exists():
            target.unlink(missing_ok=True)
            target.symlink_to(own)
            say(f"weights: {one.name}: yours, {own}")
            continue
        drawn.append(one.name)
        if target.is_symlink() or not target.exists():
            target.unlink(missing_ok=True)
            write_random(one, target)
        say(f"weights: {one.name}: RANDOM VALUES in its layout ({target.stat().st_size / 1e6:,.0f} MB)")
    return drawn


def gathered_apart(weights: Path, scratch: Path, files: Sequence[ScratchFile]) -> list[str]:
    """Do the same in a process of its own, whose memory is free again when the first stage begins."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(gather_weights, weights, scratch, files=files).result()


def write_random(one: ScratchFile, path: Path) -> None:
    """Write a file of random values, whole or not at all."""
    import torch

    aside = path.with_name(f"{path.name}.part")
    torch.save(dict(_tensors(one)) if one.shapes else _inception(), aside)
    os.replace(aside, path)


def _tensors(one: ScratchFile) -> Iterator[tuple[str, object]]:
    """Yield a file's tensors, scaled as a fresh layer's are, so that nothing overflows on the way through."""
    import torch

    generator = torch.Generator().manual_seed(0)
    for key, shape in one.shapes.items():
        if len(shape) == 1:
            made = torch.ones(shape) if key.endswith("weight") else torch.zeros(shape)
        else:
            made = torch.randn(shape, generator=generator) / math.sqrt(math.prod(shape[1:]))
        yield key, made


def _inception() -> dict[str, object]:
    """Return the state of torch-fidelity's own network, as its class begins."""
    import io

    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Untrained(FeatureExtractorInceptionV3):
        def load_state_dict(self, state_dict: object, *args: object, **kwargs: object) -> None:
            """Load nothing: the class insists on a file."""

    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    torch.manual_seed(0)
    return Untrained("untrained", ["2048"], feature_extractor_weights_path=nothing).state_dict()
