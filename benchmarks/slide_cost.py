"""What a drawn slide costs: seconds of one core a megapixel by stage, against single patches; the paper's size counted.

python benchmarks/slide_cost.py                table; the model that ships, 85 patches from 2.5x to 20x

Time is that of the processor, with one thread, so that other jobs on the machine disturb less. Windows that go through
the U-Net and patches' areas that go through the autoencoder are counted from the plan of a root; with the multiply-adds
of the paper's networks they say what one of 32,768 px takes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from omegaconf import DictConfig

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from benchmarks.slides import PATCH_PX, drawn
from zoomldm.canvas import grow, region
from zoomldm.canvas.grow import Tree
from zoomldm.canvas.pyramid import Pyramid
from zoomldm.canvas.settings import is_coarse
from zoomldm.canvas.store import CanvasStore
from zoomldm.canvas.windows import starts
from zoomldm.commands import slide
from zoomldm.commands.requests import packed_model
from zoomldm.composing import compose_jobs
from zoomldm.diffusion.guidance import num_passes
from zoomldm.diffusion.solvers.base import Solver
from zoomldm.rehearsal.extrapolation import GMACS
from zoomldm.stages.trained import HowToSample, TrainedModels

VARIANTS = {
    "as it is": (),
    "`block=4`": ("block=4",),
    "corrected in latents too": ("agreement.until=0.5",),
    "coarse levels as the others": ("coarse.to=null",),
    "5 steps": ("sampling.steps=5",),
}
STAGES = {
    "tokens": [(Tree, "roots"), (Tree, "children")],
    "U-Net": [(region, "predict_region")],
    "correction": [(region, "corrected")],
    "borders": [(grow, "blended")],
    "writing": [(CanvasStore, "write_image"), (CanvasStore, "write_tokens"), (Pyramid, "write")],
}
PAPER_PATCHES, NUM_TIMESTEPS, STEPS = (4**8 - 1) // 3, 1000, 10
EFFICIENT_FLOPS = 0.4 * 989e12
"""Of an H100: 40 % of its dense bf16 rate."""


@contextmanager
def watched() -> Iterator[Counter[str]]:
    """Measure seconds by stage of whatever is drawn meanwhile."""
    seconds = Counter[str]()

    def timed(stage: str, made: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **options: Any) -> Any:
            began = time.process_time()
            try:
                return made(*args, **options)
            finally:
                seconds[stage] += time.process_time() - began

        return run

    with ExitStack() as stack:
        for stage, places in STAGES.items():
            for owner, name in places:
                stack.enter_context(mock.patch.object(owner, name, timed(stage, getattr(owner, name))))
        began = time.process_time()
        yield seconds
        seconds["all"] = time.process_time() - began
        seconds["the rest"] = seconds["all"] - sum(seconds[stage] for stage in STAGES)


@dataclass(frozen=True)
class Passes:
    """How often a patch goes through each network, on average over a slide."""

    unet: float
    encode: float
    decode: float

    def flops(self, steps: int) -> float:
        """Return the operations of the paper's root."""
        gmacs = sum(GMACS[name] * value for name, value in vars(self).items()) + steps * GMACS["edm"]
        return 2e9 * gmacs * PAPER_PATCHES

    @classmethod
    def of(cls, cfg: DictConfig, solver: Solver) -> Passes:
        """Count those of slide.py's configuration from the plan, glass aside."""
        unet, encode, decode = 0, 0, 0
        levels = slide.drawn_levels(cfg, None)
        for level in levels:
            how = cfg.coarse if is_coarse(level.rung.magnification, cfg.coarse.to) else cfg.sampling
            parts = [t / NUM_TIMESTEPS for t in solver.timesteps(how.steps, NUM_TIMESTEPS).tolist()]
            overlaps = sum(part < cfg.overlap for part in parts)
            corrections = sum(part >= cfg.agreement.until for part in parts) if cfg.agreement.until < 1 else 0
            for block in level.blocks(cfg.block):
                area = level.with_halo(block, cfg.halo)
                sides = area.bottom - area.top, area.right - area.left
                in_place, across = (prod(len(starts(2 * side, 2, shift)) for side in sides) for shift in (0, 1))
                unet += num_passes(how.guidance_scale) * (how.steps * in_place + overlaps * across)
                encode += area.num_patches * (1 + 2 * corrections if level.depth else 0)
                decode += area.num_patches * (1 + corrections if level.depth else 1)
        patches = sum(level.part.num_patches for level in levels)
        return cls(unet / patches, encode / patches, decode / patches)


def of_slide(words: Sequence[str], target: float) -> tuple[Counter[str], int]:
    """Draw a root of 2.5x down to a magnification; return its seconds by stage, and its patches."""
    with tempfile.TemporaryDirectory() as folder, watched() as seconds:
        levels, _ = drawn(Path(folder) / "slide", "root=2.5", f"target={target:g}", *words)
    return seconds, sum(level.part.num_patches for level in levels)


def composed(*words: str) -> DictConfig:
    return compose_jobs("slide", ["out=any.ome.tiff", "model=reference", *words])[0]


def of_single(trained: TrainedModels, num: int) -> float:
    """Return the seconds of single patches with generated conditions."""
    generator = trained.generator(HowToSample(steps=STEPS, guidance_scale=1))
    generator.from_edm(0, range(2))
    began = time.process_time()
    generator.from_edm(0, range(num))
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", type=float, default=20, help="the finest magnification: 20, or 10 for a quarter")
    parser.add_argument("--count", action="store_true", help="count alone, and draw nothing")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    trained = packed_model(composed()).load("", wants_edm=True)
    columns = ["all", *STAGES, "the rest"]
    print(f"| core seconds a megapixel | {' | '.join(columns)} | U-Net, encoder, decoder a patch | paper's root |")
    print("|---|" + "---:|" * (len(columns) + 2))
    seconds = Counter({"all": 0 if chosen.count else of_single(trained, 64)})
    _say("single patches", seconds, 64, columns, Passes(STEPS, 0, 1))
    if not chosen.count:
        of_slide((), 2.5)  # what is loaded once
    for name, words in VARIANTS.items():
        seconds, patches = (Counter(), 1) if chosen.count else of_slide(words, chosen.target)
        _say(name, seconds, patches, columns, Passes.of(composed(*words), trained.sampling.solver))


def _say(name: str, seconds: Counter[str], patches: int, columns: Sequence[str], passes: Passes) -> None:
    megapixels, flops = patches * PATCH_PX**2 / 1e6, passes.flops(STEPS)
    rates = " | ".join(f"{seconds[one] / megapixels:.1f}" if one in seconds else "" for one in columns)
    each = ", ".join(f"{value:.1f}" for value in vars(passes).values())
    paper = f"{flops / 1e15:,.0f} PFLOP, {flops / EFFICIENT_FLOPS / 60:.0f} min"
    print(f"| {name} | {rates} | {each} | {paper} |", flush=True)


if __name__ == "__main__":
    main()
