"""What guided sampling costs here beside diffusers' plain loop, on the same network and noise. `make bench-sample`

Ours: `ZoomLDM.sample` as sample.py and evaluate.py run it: both halves of the guidance in one pass; on a GPU bf16,
channels-last and compiled as well. Plain: `UNet2DConditionModel` under `DDIMScheduler`, two passes a step, in float32.
The ways take turns of some steps; a whole patch is 50 steps and its decoding. Weights are random: time does not
depend on them. `--paper`: the paper's 400.9M U-Net and VQ-f4, with what 80,000 guided 50-step patches would take.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from diffusers import DDIMScheduler, UNet2DConditionModel

from zoomldm.commands.check import stage_in
from zoomldm.composing import compose_jobs
from zoomldm.config import option_of
from zoomldm.diffusion.solvers.base import Solver
from zoomldm.model.autoencoder import Autoencoder
from zoomldm.model.zoomldm import ZoomLDM
from zoomldm.sampling.compute import Compute

STEPS, SCALE = 50, 1.75
NUM_PATCHES = 80_000
"""10,000 at each of the paper's eight magnifications."""
PAPER = [["model=zoomldm", "data=brca_8mag", "unet.init=null", "autoencoder.weights=null"], ["model=autoencoder"]]
DEMO = [["model=zoomldm_tiny"], ["model=autoencoder_tiny"]]
UNET_MACS = 103.6e9
"""Of a pass of the paper's U-Net for one latent."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paper", action="store_true", help="the paper's sizes; else the demo's, or those of --unet")
    parser.add_argument("--unet", type=Path, help="folder unet/ of an exported model (src/export.py)")
    parser.add_argument(
        "--batches", type=int, nargs="*", help="patches in a batch; default 64 and 128, on a CPU 1 or 16"
    )
    parser.add_argument("--steps", type=int, default=4, help="of a turn; its time is taken for that of each of the 50")
    parser.add_argument("--seconds", type=float, default=60, help="no turns begin later, but each way has one")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/sample.json"))
    chosen = parser.parse_args()
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    cores = f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    name = torch.cuda.get_device_name() if on_gpu else cores
    results: dict[str, Any] = {"date": date.today().isoformat(), "torch": torch.__version__, "device": name}
    print(f"{name}, torch {torch.__version__}", flush=True)
    deadline = time.monotonic() + chosen.seconds
    for size in chosen.batches or ([64, 128] if on_gpu else [1 if chosen.paper else 16]):
        if time.monotonic() > deadline:
            print(f"batch {size}: no time left", flush=True)
            continue
        results[f"batch {size}"] = compared(chosen, device, size, deadline)
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        chosen.out.write_text(json.dumps(results, indent=2) + "\n")


def compared(chosen: argparse.Namespace, device: torch.device, size: int, deadline: float) -> dict[str, Any]:
    """Measure every way at one batch size, in turns."""
    torch.manual_seed(0)
    torch._dynamo.reset()  # a second batch size is another graph, not one of variable shape
    models = made_models(chosen)
    runners: dict[str, Runner] = {}
    for name, compute, way in ways(device):
        try:
            runners[name] = Runner(way, models, compute, size, chosen.steps)
        except torch.OutOfMemoryError:
            print(f"batch {size}, {name}: out of memory", flush=True)
            torch.cuda.empty_cache()
    for turn in range(20):
        if turn and time.monotonic() > deadline:
            break
        for name, runner in runners.items():
            runner.turn()
            if not turn:  # said at once, should there be no time for more
                print(f"batch {size}, {name}, first turn: {told(runner.figures(), chosen.paper)}", flush=True)
    found: dict[str, Any] = {name: runner.figures() for name, runner in runners.items()}
    for name, one in found.items():
        print(f"batch {size}, {name}, {one['turns']} turns: {told(one, chosen.paper)}", flush=True)
    if {"plain", "ours"} <= found.keys():
        found["ratio"] = found["ours"]["patches_per_s"] / found["plain"]["patches_per_s"]
        print(f"batch {size}: ours is {found['ratio']:.2f} times as fast as diffusers' plain loop", flush=True)
    return found


def made_models(chosen: argparse.Namespace) -> tuple[ZoomLDM, Autoencoder]:
    """Build ZoomLDM and autoencoder, the paper's or the demo's, of random weights."""
    zoomldm, first = (stage_in(compose_jobs("train", words)[0]) for words in (PAPER if chosen.paper else DEMO))
    model = zoomldm.untrained(num_rungs=8, grid_dim=384 if chosen.paper else 24, latent_scale=1.0)
    if chosen.unet:
        model.unet = UNet2DConditionModel.from_pretrained(chosen.unet)
    with torch.no_grad():
        for parameter in model.conditioner.parameters():
            parameter.normal_(std=0.1)  # the null tokens begin at zero
    return model.eval(), first.untrained().eval()


def ways(device: torch.device) -> list[tuple[str, Compute, Callable[..., Tensor]]]:
    """Return the ways by name, in the order in which they are measured."""
    if device.type == "cpu":
        return [("plain", Compute(), plain), ("ours", Compute(channels_last=True), ours)]
    eager = Compute(device=device, autocast=True, channels_last=True)
    return [
        ("plain", Compute(device=device), plain),
        ("ours, not compiled", eager, ours),
        ("ours", replace(eager, compile=True), ours),
    ]


def ours(model: ZoomLDM, tokens: Tensor, numbers: Tensor, steps: int) -> Tensor:
    """Draw latents as sample.py does."""
    solver = option_of("solver", "ddim").make(Solver)
    return model.sample(tokens, numbers, seed=0, solver=solver, num_steps=steps, guidance_scale=SCALE)


def plain(model: ZoomLDM, tokens: Tensor, numbers: Tensor, steps: int) -> Tensor:
    """Draw latents as diffusers' pipelines do, the two predictions one after the other."""
    scheduler = DDIMScheduler(
        beta_start=0.0015, beta_end=0.0195, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip
    scheduler.set_timesteps(steps)
    null = model.conditioner.null_tokens(len(tokens))
    x = torch.randn(len(tokens), *model.latent_shape, generator=torch.Generator().manual_seed(0)).to(tokens.device)
    for t in scheduler.timesteps:
        without = model.unet(x, t, encoder_hidden_states=null).sample
        with_condition = model.unet(x, t, encoder_hidden_states=tokens).sample
        x = scheduler.step(without + SCALE * (with_condition - without), t, x).prev_sample
    return x


class Runner:
    """One way on its own copy of the models, warmed up; turns of a few steps are timed one by one."""

    def __init__(
        self, way: Callable[..., Tensor], models: tuple[ZoomLDM, Autoencoder], compute: Compute, size: int, steps: int
    ) -> None:
        self.way, self.compute, self.size, self.steps = way, compute, size, steps
        self.model, self.autoencoder = deepcopy(models)
        compute.prepare(self.model)
        compute.prepare(self.autoencoder)
        conditioner = self.model.conditioner
        draw = torch.Generator().manual_seed(0)
        tokens = torch.randn(size, conditioner.num_tokens, conditioner.token_dim, generator=draw)
        self.tokens, self.numbers = tokens.to(compute.device), torch.arange(size, device=compute.device)
        self.step_s: list[float] = []
        self.decode_s: list[float] = []
        began = time.perf_counter()
        self._timed(1)
        self.begin_s = time.perf_counter() - began

    def turn(self) -> None:
        """Time some steps and the decoding."""
        step_s, decode_s = self._timed(self.steps)
        self.step_s.append(step_s)
        self.decode_s.append(decode_s)

    def figures(self) -> dict[str, Any]:
        """Return medians, and what a patch of all 50 steps costs by them."""
        step_s, decode_s = statistics.median(self.step_s), statistics.median(self.decode_s)
        return {
            "precision": self.precision,
            "step_s": step_s,
            "decode_s": decode_s,
            "patches_per_s": self.size / (STEPS * step_s + decode_s),
            "begin_s": self.begin_s,
            "turns": len(self.step_s),
            "tflops_per_s": 2 * 2 * UNET_MACS * self.size / step_s / 1e12,
            "memory_gb": self.memory_gb,
        }

    def _timed(self, steps: int) -> tuple[float, float]:
        """Return the seconds of a step and of decoding."""
        on_gpu = self.compute.device.type == "cuda"
        torch.set_float32_matmul_precision("highest" if self.way is plain else "high")
        if on_gpu:
            torch.backends.cudnn.benchmark = True
            torch.backends.cudnn.allow_tf32 = self.way is not plain
            torch.cuda.reset_peak_memory_stats()
        self.precision = self.compute.precision
        with torch.inference_mode(), torch.autocast(self.compute.device.type, torch.bfloat16, self.compute.autocast):
            latents, steps_s = seconds(lambda: self.way(self.model, self.tokens, self.numbers, steps))
            _, decode_s = seconds(lambda: self.autoencoder.decode(latents))
        self.memory_gb = torch.cuda.max_memory_allocated() / 2**30 if on_gpu else None
        return steps_s / steps, decode_s


def seconds(work: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """Do some work; return what it gave and its time, to the end of what it asked of a GPU."""
    began = time.perf_counter()
    found = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return found, time.perf_counter() - began


def told(one: dict[str, Any], paper: bool) -> str:
    """Say in a line what was measured."""
    text = f"{one['patches_per_s']:.3g} patches/s ({1e3 * one['step_s']:.4g} ms a step, {one['precision']}"
    text += f", {one['begin_s']:.1f} s to begin)"
    if paper:
        minutes = NUM_PATCHES / one["patches_per_s"] / 60
        text += f"; {one['tflops_per_s']:.0f} TFLOP/s"
        text += f"; {NUM_PATCHES:,} guided {STEPS}-step patches in {minutes:,.0f} minutes"
    return text + (f"; {one['memory_gb']:.1f} GB" if one["memory_gb"] else "")


if __name__ == "__main__":
    main()
