"""How fast samples come: this loader, webdataset's pipeline, and cat, on the same shards. `make bench-loader`

The shards have the paper's real sizes: 3×64×64 float16 latents, 384-wide grids of all eight magnifications. Every way
delivers the same thing to the main process: latents `b c h w`, and for each grid size the stored rows and cells.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import numpy as np
import torch
from synthetic import make_shards

from zoomldm.curriculum.uniform import Uniform
from zoomldm.data.batch import SparseGridGroup
from zoomldm.data.manifest import Manifest, ShardInfo
from zoomldm.data.order.loader import TrainLoader, partition
from zoomldm.data.order.sequence import GlobalSequence
from zoomldm.data.reader import SampleSource
from zoomldm.data.shards import column_path, index_path
from zoomldm.ladder import PAPER_LADDER

LADDER = PAPER_LADDER
SAMPLES = {0: 4096, 1: 4096, 2: 4096, 3: 2048, 4: 1024, 5: 512, 6: 256, 7: 160}
SMALL = (0, 1, 2)
DIM, LATENT = 384, (3, 64, 64)
WARM_UP_BATCHES = 40
MILLION = 1_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("cache/bench-loader"), help="takes 2 GB of shards")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="the ways take turns; medians are shown")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/loader.json"))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    manifest = make_shards(chosen.folder, SAMPLES, ladder=LADDER, dim=DIM, latent_shape=LATENT)
    results = {"workloads": {}}
    for name, rungs in (("latents, grids of 20x to 5x", SMALL), ("latents, grids of all eight", tuple(SAMPLES))):
        results["workloads"][name] = compare(manifest, rungs, chosen)
        show(name, results["workloads"][name])
    results["jump_ms"] = jump_ms()
    results["memory"] = memory_of_workers(chosen.folder, chosen.workers)
    print(f"\njump to step 1,000,000 at the paper's counts, first batch's samples: {results['jump_ms']:.1f} ms")
    worst = max(results["memory"]["worker_pss_mb"])
    print(
        f"{results['memory']['samples'] / MILLION:.0f} million samples in {results['memory']['shards']:,} shards, "
        "after "
        f"{results['memory']['read']:,} random reads: {worst:.0f} MB a worker (proportional set size)"
    )
    results |= {
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
        "workers": chosen.workers,
        "batch": chosen.batch,
    }
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(results, indent=2) + "\n")


def compare(manifest: Manifest, rungs: tuple[int, ...], chosen: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Measure every way in turns; return samples/s and MB/s by way, medians over the rounds."""
    ways: dict[str, Callable[[], tuple[float, float]]] = {
        "cat": lambda: measure_cat(manifest, rungs),
        "zoomldm": lambda: measure(ours(manifest, rungs, chosen), chosen.seconds),
        "zoomldm, dense on the CPU": lambda: measure(ours(manifest, rungs, chosen), chosen.seconds, densify=True),
        "webdataset": lambda: measure(webdataset_pipeline(manifest, rungs, chosen), chosen.seconds),
    }
    figures: dict[str, list[tuple[float, float]]] = {}
    for _ in range(chosen.rounds):
        for name, way in ways.items():
            figures.setdefault(f"{name}, warm", []).append(way())
    for name in ("cat", "zoomldm", "webdataset"):
        evict(manifest)
        figures[f"{name}, cold"] = [ways[name]()]
    return {
        name: {
            "samples_per_s": statistics.median(f[0] for f in found),
            "mb_per_s": statistics.median(f[1] for f in found),
            "spread_percent": 100 * (max(f[1] for f in found) / min(f[1] for f in found) - 1),
        }
        for name, found in figures.items()
    }


def measure(batches: Iterator, seconds: float, densify: bool = False) -> tuple[float, float]:
    """Return (samples/s, MB/s) of the bytes that samples have in the shards, after the first batches."""
    num_samples = num_bytes = 0
    start = None
    for turn, batch in enumerate(batches):
        latent, groups = batch.latent, batch.grids
        if densify:
            _ = batch.to("cpu")
        if turn == WARM_UP_BATCHES:
            start = time.perf_counter()
        elif start is not None:
            num_samples += len(latent)
            num_bytes += latent.nbytes + sum(g.rows.nbytes + g.cells.nbytes // 2 for g in groups)
            if time.perf_counter() - start > seconds:
                break
    elapsed_s = time.perf_counter() - start
    return num_samples / elapsed_s, num_bytes / elapsed_s / 1e6


def ours(manifest: Manifest, rungs: tuple[int, ...], chosen: argparse.Namespace) -> Iterator:
    """This project's loader."""
    magnifications = [LADDER[k].magnification for k in rungs]
    source = SampleSource(manifest, split="train", columns=("latent", "grid"), magnifications=magnifications)
    sequence = GlobalSequence(
        seed=0, curriculum=Uniform(source.counts), counts=source.counts, global_batch=chosen.batch
    )
    part = partition(chosen.batch, max_micro_batch=chosen.batch, world_size=1)
    loader = TrainLoader(source, sequence, part, start_step=0, end_step=10**9, num_workers=chosen.workers)
    yield from loader


def webdataset_pipeline(manifest: Manifest, rungs: tuple[int, ...], chosen: argparse.Namespace) -> Iterator:
    """Webdataset's own way: a stream for each magnification, its columns side by side, mixed and batched."""
    import webdataset as wds

    def grids_of(url: str) -> Iterator[dict]:
        tar = url.replace(".latent.", ".grid.")
        return iter(wds.WebDataset(tar, shardshuffle=False, nodesplitter=None, workersplitter=None))

    def with_grids(samples: Iterator[dict]) -> Iterator[dict]:
        url, grids = None, iter(())
        for sample in samples:
            grid = next(grids, None) if sample["__url__"] == url else None
            if grid is None:  # another shard, or the same one again
                url = sample["__url__"]
                grids = grids_of(url)
                grid = next(grids)
            if grid["__key__"] != sample["__key__"]:
                raise ValueError(f"{url}: columns disagree")
            yield sample | {"cells.npy": grid["cells.npy"], "rows.npy": grid["rows.npy"]}

    streams = []
    for k in rungs:
        shards = manifest.shards_of("train", LADDER[k].magnification)
        urls = [str(column_path(manifest.root / shard.path, "latent")) for shard in shards]
        streams.append(
            wds.WebDataset(urls, resampled=True, shardshuffle=False).compose(with_grids).shuffle(64).decode()
        )
    pipeline = wds.DataPipeline(
        wds.RandomMix(streams), wds.batched(chosen.batch, collation_fn=_collated, partial=False)
    )
    yield from wds.WebLoader(pipeline, batch_size=None, num_workers=chosen.workers, prefetch_factor=4)


class _Collated:
    """The same parts as a Batch has."""

    def __init__(self, latent: torch.Tensor, grids: list[SparseGridGroup]) -> None:
        self.latent, self.grids = latent, grids


def _collated(samples: list[dict]) -> _Collated:
    by_side: dict[int, list[int]] = {}
    for i, sample in enumerate(samples):
        by_side.setdefault(sample["cells.npy"].shape[0], []).append(i)
    groups = []
    for _, members in sorted(by_side.items()):
        rows = [samples[i]["rows.npy"] for i in members]
        offsets = np.cumsum([0] + [len(r) for r in rows[:-1]])
        cells = np.stack([samples[i]["cells.npy"].astype(np.int32) + o for i, o in zip(members, offsets)])
        groups.append(
            SparseGridGroup(torch.tensor(members), torch.from_numpy(np.concatenate(rows)), torch.from_numpy(cells))
        )
    return _Collated(torch.from_numpy(np.stack([sample["latent.npy"] for sample in samples])), groups)


def measure_cat(manifest: Manifest, rungs: tuple[int, ...]) -> tuple[float, float]:
    """Read every tar of these magnifications with cat, in amounts that a uniform mix of magnifications reads.

    Files of magnifications with few samples are read several times, so that the bytes are those of the loader.
    """
    most = max(SAMPLES[k] for k in rungs)
    files, num_samples, num_bytes = [], 0, 0
    for k in rungs:
        for shard in manifest.shards_of("train", LADDER[k].magnification):
            for column in ("latent", "grid"):
                tar = column_path(manifest.root / shard.path, column)
                times = most // SAMPLES[k]
                files += [str(tar)] * times
                num_bytes += tar.stat().st_size * times
            num_samples += shard.num_samples * times
    start = time.perf_counter()
    with open(os.devnull, "wb") as nowhere:
        subprocess.run(["cat", *files], stdout=nowhere, check=True)
    elapsed_s = time.perf_counter() - start
    return num_samples / elapsed_s, num_bytes / elapsed_s / 1e6


def evict(manifest: Manifest) -> None:
    """Put the shards out of the page cache."""
    for path in Path(manifest.root).glob("shards/**/*.tar"):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def jump_ms() -> float:
    """Return the time from nothing to the samples of step 1,000,000 at the paper's counts."""
    counts = np.array([12_000_000, 3_000_000, 750_000, 186_000, 57_000, 20_000, 7_000, 2_500])
    start = time.perf_counter()
    GlobalSequence(seed=0, curriculum=Uniform(counts), counts=counts, global_batch=600).step(MILLION)
    return 1e3 * (time.perf_counter() - start)


def memory_of_workers(folder: Path, workers: int, total: int = 12 * MILLION, num_read: int = 200_000) -> dict:
    """Serve 12 million samples, hard links of one shard under many names, and measure the workers."""
    linked = folder.parent / "bench-loader-links"
    original = Manifest.load(folder)
    shard = original.shards_of("train", LADDER[0].magnification)[0]
    count = total // shard.num_samples
    links = []
    for n in range(count):
        path = f"shards/train/20x/{n:05d}"
        for column in ("latent", "grid"):
            target, tar = column_path(linked / path, column), column_path(folder / shard.path, column)
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                os.link(tar, target)
                os.link(index_path(tar), index_path(target))
        links.append(
            ShardInfo(
                split="train", magnification=20.0, path=path, num_samples=shard.num_samples, columns=shard.columns
            )
        )
    original.shards, original.root = links, linked
    original.counts = {"train": {"20x": count * shard.num_samples}}
    source = SampleSource(original, split="train", columns=("latent", "grid"))
    sequence = GlobalSequence(seed=0, curriculum=Uniform(source.counts), counts=source.counts, global_batch=512)
    part = partition(512, max_micro_batch=512, world_size=1)
    steps = num_read // 512
    loader = TrainLoader(source, sequence, part, start_step=0, end_step=steps, num_workers=workers)
    for turn, _ in enumerate(loader):
        if turn == steps - 8:
            sizes = [_proportional_mb(worker.pid) for worker in multiprocessing.active_children()]
    return {"samples": count * shard.num_samples, "shards": count, "read": num_read, "worker_pss_mb": sizes}


def _proportional_mb(process: int) -> float:
    """Return a process's memory, shared pages counted in parts."""
    for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no Pss in smaps_rollup")


def show(name: str, figures: dict[str, dict[str, float]]) -> None:
    print(f"\n{name}\n| way | samples/s | MB/s | ± rounds |\n|---|---|---|---|")
    for way, found in figures.items():
        print(f"| {way} | {found['samples_per_s']:,.0f} | {found['mb_per_s']:,.0f} | {found['spread_percent']:.0f} % |")
    ratio = figures["zoomldm, warm"]["samples_per_s"] / figures["webdataset, warm"]["samples_per_s"]
    raw = figures["zoomldm, warm"]["mb_per_s"] / figures["cat, warm"]["mb_per_s"]
    print(f"zoomldm is {ratio:.1f} × webdataset's pipeline, and {raw:.0%} of cat's rate")


if __name__ == "__main__":
    main()
