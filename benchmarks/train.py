"""What the training loop costs beside a bare PyTorch loop, and what a GPU makes of the model. `make bench-train`

On a CPU: the tiny model; `fit` and a bare loop (the same modules, optimiser, clipping and batches, these pre-loaded)
take turns. On a GPU: the paper's model at the largest micro-batch that fits, in images/s, MFU and memory, against the
same networks trained naively in float32 and with autocast alone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext, redirect_stdout
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from synthetic import make_shards

from zoomldm.commands.check import stage_in
from zoomldm.commands.job import plain
from zoomldm.composing import compose_jobs
from zoomldm.curriculum.uniform import Uniform
from zoomldm.data.batch import Batch
from zoomldm.data.manifest import Manifest
from zoomldm.data.order.sequence import GlobalSequence
from zoomldm.data.reader import SampleSource
from zoomldm.ladder import Ladder
from zoomldm.launch.fabric import connected
from zoomldm.launch.settings import FabricSettings
from zoomldm.model.trainable import Trainable
from zoomldm.runs.run import Run
from zoomldm.training.job import TrainingData
from zoomldm.training.loop import fit
from zoomldm.training.optim import build_optimizer, learning_rate, set_learning_rate
from zoomldm.training.perf import count_flops_per_image, peak_flops
from zoomldm.training.settings import LoopSettings, OptimSettings

TINY_SAMPLES = {0: 512, 1: 512, 2: 512, 3: 512, 4: 256, 5: 128, 6: 64, 7: 32}
SKIPPED_WINDOWS = 1
NEVER = dict.fromkeys(("validate_every", "sample_every", "checkpoint_every", "keep_every"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("cache/bench-train"), help="takes the shards")
    parser.add_argument("--rounds", type=int, default=10, help="turns of each loop")
    parser.add_argument("--steps", type=int, default=30, help="of each turn")
    parser.add_argument("--gpu-batches", type=int, nargs="*", default=[32, 64, 96, 128, 160, 200, 256, 320])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/train.json"))
    chosen = parser.parse_args()
    results: dict[str, Any] = {"date": date.today().isoformat(), "torch": torch.__version__}
    if torch.cuda.is_available():
        results["device"] = torch.cuda.get_device_name()
        results["paper"] = paper_on_gpu(chosen)
    else:
        results["device"] = f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
        results["overhead"] = overhead(chosen)
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(results, indent=2) + "\n")


def overhead(chosen: argparse.Namespace) -> dict[str, float]:
    """Compare `fit` with the bare loop, a turn of each after the other; medians of seconds a step."""
    (cfg,) = compose_jobs("train", ["model=zoomldm_tiny", "fabric=cpu"])
    ladder = Ladder(**plain(cfg.data.ladder))
    latent = (cfg.model.latent_channels, cfg.model.latent_px, cfg.model.latent_px)
    manifest = make_shards(chosen.folder, TINY_SAMPLES, ladder=ladder, dim=26, latent_shape=latent)
    optim = OptimSettings(**plain(cfg.optim))
    settings = FabricSettings(**plain(cfg.fabric))
    ours, bare = [], []
    for turn in range(chosen.rounds):
        ways = [(ours, loop_step_s), (bare, bare_step_s)]
        for found, way in ways if turn % 2 == 0 else ways[::-1]:  # neither is always the first
            found += way(cfg, manifest, optim, settings, chosen.steps)
        print(f"turn {turn + 1}: loop {ours[-1]:.4f} s a step, bare {bare[-1]:.4f}", flush=True)
    low, middle, high = np.percentile([100 * (a / b - 1) for a, b in zip(ours, bare)], [25, 50, 75])
    found = {"loop_step_s": statistics.median(ours), "bare_step_s": statistics.median(bare)}
    found |= {"overhead_percent": middle, "overhead_percent_quartiles": [low, high]}
    print(
        f"zoomldm_tiny, batch {optim.batch_size}, medians: loop {1e3 * found['loop_step_s']:.1f} ms a step, bare "
        f"{1e3 * found['bare_step_s']:.1f} ms; turn against turn {middle:+.1f} % (half of them {low:+.1f} to "
        f"{high:+.1f} %)"
    )
    return found


def loop_step_s(
    cfg: Any, manifest: Manifest, optim: OptimSettings, settings: FabricSettings, steps: int
) -> list[float]:
    """Run `fit` for some steps, loading, EMA and reports included; return the seconds a step of the whole turn."""
    torch.manual_seed(0)
    trainable = made_model(cfg, manifest)
    source = SampleSource(manifest, split="train", columns=trainable.columns)
    every = 10
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        run = Run.open(folder, "bench", {}, kind="zoomldm")
        with connected(settings) as fabric:
            fit(
                trainable,
                data=TrainingData(source=source, validation=None, curriculum=Uniform(source.counts), seed=0),
                optim=optim,
                loop=replace(LoopSettings(**plain(cfg.train)), steps=steps, log_every=every, **NEVER),
                fabric=fabric,
                hardware=settings,
                run=run,
            )
        windows = [json.loads(line) for line in (run.folder / "perf.jsonl").read_text().splitlines()]
    return [statistics.mean(w["step_s"] for w in windows[SKIPPED_WINDOWS:])]


def bare_step_s(
    cfg: Any, manifest: Manifest, optim: OptimSettings, settings: FabricSettings, steps: int
) -> list[float]:
    """Run the plainest loop over the same batches, loaded beforehand; return its seconds a step."""
    torch.manual_seed(0)
    trainable = made_model(cfg, manifest).train()
    if settings.chosen("channels_last"):
        trainable.to(memory_format=torch.channels_last)
    batches = list(first_batches(manifest, trainable, optim.batch_size, steps))
    optimizer = build_optimizer(trainable, optim)
    skipped = 10 * SKIPPED_WINDOWS
    for step, batch in enumerate(batches):
        if step == skipped:
            start = time.perf_counter()
        loss = trainable(batch, 0)["loss_per_sample"].mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable.parameters(), optim.clip_norm)
        set_learning_rate(optimizer, learning_rate(optim, step, steps))
        optimizer.step()
        optimizer.zero_grad()
    return [(time.perf_counter() - start) / (steps - skipped)]


def made_model(cfg: Any, manifest: Manifest) -> Trainable:
    return stage_in(cfg).untrained(num_rungs=len(manifest.ladder), grid_dim=manifest.encoder.dim, latent_scale=1.0)


def first_batches(manifest: Manifest, trainable: Trainable, size: int, number: int) -> Iterator[Batch]:
    """Read the first batches of the sequence that `fit` sees."""
    source = SampleSource(manifest, split="train", columns=trainable.columns)
    sequence = GlobalSequence(seed=0, curriculum=Uniform(source.counts), counts=source.counts, global_batch=size)
    for step in range(number):
        draws = sequence.step(step)
        yield source.read(draws.rung, draws.index, draws.sample_number).to("cpu")


# --- a GPU ------------------------------------------------------------------------------------------------------------

GPU_WAYS = {
    "float32, as written": {"autocast": False, "compile": False, "channels_last": False, "tf32": False},
    "autocast to bf16": {"autocast": True, "compile": False, "channels_last": False, "tf32": False},
    "autocast, channels-last": {"autocast": True, "compile": False, "channels_last": True, "tf32": True},
    "the loop's settings": {"autocast": True, "compile": True, "channels_last": True, "tf32": True},
}


def paper_on_gpu(chosen: argparse.Namespace) -> dict[str, Any]:
    """Measure a step of the paper's model in each way, at the largest batch of the list that fits the last one."""
    (cfg,) = compose_jobs("train", ["model=zoomldm", "data=brca_8mag", "unet.init=null", "autoencoder.weights=null"])
    ladder = Ladder(**plain(cfg.data.ladder))
    samples = dict.fromkeys(range(len(ladder)), 32)
    manifest = make_shards(chosen.folder / "paper", samples, ladder=ladder, dim=384, latent_shape=(3, 64, 64))
    found = {}
    for name, way in GPU_WAYS.items():
        for size in sorted(chosen.gpu_batches, reverse=True):
            try:
                found[name] = gpu_step(cfg, manifest, size, **way)
                break
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
        print(name, json.dumps(found.get(name)), flush=True)
    return found


def gpu_step(
    cfg: Any, manifest: Manifest, size: int, *, autocast: bool, compile: bool, channels_last: bool, tf32: bool
) -> dict[str, float | int | None]:
    """Time training steps of one kind on pre-loaded batches."""
    device = torch.device("cuda")
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.benchmark = True
    torch.cuda.reset_peak_memory_stats()
    trainable = made_model(cfg, manifest).to(device).train()
    if channels_last:
        trainable.to(memory_format=torch.channels_last)
    batches = [batch.to(device) for batch in first_batches(manifest, trainable, size, 4)]
    flops = count_flops_per_image(trainable, batches[0].select(torch.arange(8)), 0)
    if compile:
        trainable.compile_parts()
    optim = replace(OptimSettings(**plain(cfg.optim)), batch_size=size, max_micro_batch=size)
    optimizer = build_optimizer(trainable, optim)

    def step(batch: Batch) -> None:
        with torch.autocast("cuda", torch.bfloat16) if autocast else nullcontext():
            loss = trainable(batch, 0)["loss_per_sample"].mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    for turn in range(6):
        step(batches[turn % len(batches)])
    torch.cuda.synchronize()
    times = []
    for turn in range(20):
        start = time.perf_counter()
        step(batches[turn % len(batches)])
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    step_s = float(np.median(times))
    peak = peak_flops(device)
    return {
        "batch": size,
        "images_per_s": size / step_s,
        "gflops_per_image": flops / 1e9,
        "mfu": flops * size / step_s / peak if peak else None,
        "memory_gb": torch.cuda.max_memory_allocated() / 2**30,
    }


if __name__ == "__main__":
    main()
