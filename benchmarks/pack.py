"""How packing grows with the number of slides: time, memory and open files, on simulated work. ``make bench-pack``

The work of each slide (images, rows, maps) is made directly, no pixel is read: ``--patches`` patches at 20x, a quarter
of that at each magnification below, of ``--image-kb`` kilobytes, grids of ``--dim`` channels. Of the slides that are
made the first n are packed, each n in a process of its own, one core; memory is what packing takes beyond its imports.
``--against`` names an older checkout, which packs the same work in turns with this one; both must write the same bytes.
Every measurement is noted in results.jsonl in the folder; ``--figure`` draws all that stand there.
"""

import argparse
import hashlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))

ROOT = Path(os.environ.get("BENCH_PACK_CODE", Path(__file__).resolve().parents[1]))
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

import numpy as np  # noqa: E402
from slide_settings import paper_settings  # noqa: E402

from data_prep.execution.serial import SerialExecutor  # noqa: E402
from data_prep.pack.pack import pack, packing_of  # noqa: E402
from data_prep.pack.splits import split_patients  # noqa: E402
from data_prep.preparation import Contents, Preparation  # noqa: E402
from data_prep.settings import PackSettings, SlideSettings  # noqa: E402
from data_prep.slides.table import SlideSpec  # noqa: E402
from data_prep.work.state import DoneSlide, FileFacts, ScaleFacts  # noqa: E402
from data_prep.work.store import SlideStore  # noqa: E402
from zoomldm.config import Option  # noqa: E402
from zoomldm.encoder.base import Encoder  # noqa: E402
from zoomldm.ladder import PAPER_LADDER  # noqa: E402

POLL_S = 0.01
RESULTS = "results.jsonl"


class Simulated(Encoder):
    """Stands for a network: its rows are made up."""

    name, batch_size, weights_sha256 = "simulated", 64, "0" * 64

    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        raise NotImplementedError


def settings_of() -> SlideSettings:
    encoder = Option("encoder", {"_target_": "pack.Simulated"}, ("pack",))
    return replace(paper_settings("data.min_tissue=0.5"), encoder=encoder)


def make_work(root: Path, number: int, args: argparse.Namespace) -> None:
    """Write the work of one slide, unless it is there."""
    store, rng = SlideStore(root, f"slide-{number:05d}"), np.random.default_rng(number)
    if store.done():
        return
    store.folder.mkdir(parents=True, exist_ok=True)
    side = int((2 * args.patches) ** 0.5) + 1
    cells = np.zeros(side * side, np.int32)
    cells[np.sort(rng.permutation(side * side)[: args.patches])] = np.arange(1, args.patches + 1)
    size, offset, arrays, counts = args.image_kb * 1000, 0, {}, {}
    pixels = rng.bytes(size)
    with open(store.images_path, "wb") as stream:
        for rung in PAPER_LADDER.rungs:
            count = max(1, args.patches // 4**rung.index)
            corner = rng.integers(0, side, (count, 2), np.int32)
            spans = np.full((count, 4), -1, np.int64)
            spans[:, 0], spans[:, 1] = offset + size * np.arange(count), size
            named = {
                "place": corner,
                "px0": corner[:, ::-1] * np.int64(512),
                "tissue": rng.random(count),
                "spans": spans,
            }
            arrays |= {f"{rung.index}.{name}": array for name, array in named.items()}
            stream.write(pixels * count)
            offset, counts[rung.label] = offset + size * count, count
    encoder = Simulated()
    encoder.dim = args.dim
    np.savez(store.folder / "samples.npz", cells=cells.reshape(side, side), **arrays)  # of every version's layout
    np.save(store.folder / "rows.npy", rng.standard_normal((args.patches + 1, args.dim), np.float32).astype(np.float16))
    store.write_state(_state(store.slide, counts, encoder, side * PAPER_LADDER.patch_px))


def _state(slide: str, counts: dict[str, int], encoder: Encoder, side_px: int) -> DoneSlide:
    scale = ScaleFacts(
        mpp_level0=0.25, mpp_true=0.5, source="file", method="box", level=0, pitch_px0=2.0, origin_level=(0, 0)
    )
    return DoneSlide(
        slide=slide,
        patient=slide,
        path=f"{slide}.svs",
        reason="",
        file=FileFacts(bytes=0, mtime_ns=0, quick_hash=slide),
        format="simulated",
        scale=scale,
        size_px=(side_px, side_px),
        tissue=0.5,
        pen=0.0,
        glass=[240, 240, 240],
        area={"axis": 0, "cut": 0},
        by_area=False,
        counts=counts,
        num_tiles_encoded=counts["20x"],
        encoder=encoder.describe(),
        unreadable_tiles=0,
        unreadable_px0=[],
        regions_skipped=0,
        reader="simulated",
        decodes=None,
        elapsed_s=0.0,
        cpu_s=0.0,
        encode_s=0.0,
    )


def measure(work: Path, root: Path, num_slides: int, shard_samples: int) -> dict[str, float]:
    """Pack the first slides of ``work`` into ``root``; return what that took."""
    import webdataset  # noqa: F401  which brings torch, 500 MB of it

    root.mkdir(parents=True)
    (root / "slides").symlink_to((work / "slides").absolute())
    names = [f"slide-{number:05d}" for number in range(num_slides)]
    specs = [SlideSpec(path=Path(f"{name}.svs"), name=name, patient=name) for name in names]
    told = PackSettings(
        name="simulated",
        split_mode="patients",
        test_fraction=0.05,
        min_samples={"train": 1, "test": 0},
        shard_samples=shard_samples,
        seed=0,
        max_test_per_slide=None,
    )
    preparation = Preparation(root=root, specs=specs, slide_settings=settings_of(), pack_settings=told)
    states = preparation.states()
    split = split_patients(specs, mode="patients", test_fraction=0.05, seed=0)
    most_open, is_over = [0], threading.Event()

    def watch() -> None:
        while not is_over.wait(POLL_S):
            most_open[0] = max(most_open[0], len(os.listdir("/proc/self/fd")))

    threading.Thread(target=watch, daemon=True).start()
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began, cpu = time.perf_counter(), time.process_time()
    packing = packing_of(Contents(preparation=preparation, done=states, split=split))
    planned = time.process_time()
    manifest = pack(packing, states, SerialExecutor())
    took = time.perf_counter() - began, time.process_time() - cpu
    is_over.set()
    tars = sorted(facts["sha256"] for shard in manifest.shards for facts in shard.columns.values())
    return {
        "wall_s": took[0],
        "cpu_s": took[1],
        "plan_s": planned - cpu,
        "memory_mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1024,
        "open_files": most_open[0],
        "samples": sum(shard.num_samples for shard in manifest.shards),
        "shard_mb": sum(facts["bytes"] for shard in manifest.shards for facts in shard.columns.values()) / 1e6,
        "sha256": hashlib.sha256("".join(tars).encode()).hexdigest(),
    }


def measured(code: Path, num_slides: int, args: argparse.Namespace) -> dict[str, float] | None:
    """Return what packing takes in a process of its own, by the code of a checkout; None where it fails."""
    root = args.folder / "packed"
    shutil.rmtree(root, ignore_errors=True)
    done = by_code(code, "--only", str(root), "--slides", str(num_slides))
    shutil.rmtree(root, ignore_errors=True)
    if done.returncode:
        print(f"{code}: {num_slides} slides: {done.stderr.strip().splitlines()[-1]}", flush=True)
        return None
    found = json.loads(done.stdout.splitlines()[-1])
    with open(args.folder / RESULTS, "a") as stream:
        name = "this" if code == ROOT else "against"
        stream.write(json.dumps({"slides": num_slides, "patches": args.patches, "code": name} | found) + "\n")
    return found


def by_code(code: Path, *words: str) -> subprocess.CompletedProcess:
    """Run this script with the modules of a checkout."""
    return subprocess.run(
        [sys.executable, __file__, *sys.argv[1:], *words],
        env=os.environ | {"BENCH_PACK_CODE": str(code)},
        capture_output=True,
        text=True,
        check=False,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("cache/bench-pack"), help="takes 4 GB with the defaults")
    parser.add_argument("--slides", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--patches", type=int, default=100, help="of a slide at 20x; TCGA-BRCA's have 10,600")
    parser.add_argument("--image-kb", type=int, default=8, help="of a patch; 256 px in JPEG take 45")
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--shard-samples", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=1, help="medians of so many are shown")
    parser.add_argument("--against", type=Path, help="an older checkout, which packs the same work in turns")
    parser.add_argument("--figure", type=Path, help="draw what has been measured until now")
    parser.add_argument("--only", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--make", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    work = args.folder / f"work-{args.patches}-{args.image_kb}-{args.dim}"
    if args.only:
        print(json.dumps(measure(work, args.only, args.slides[0], args.shard_samples)))
        return
    if args.make:
        for number in range(max(args.slides)):
            make_work(work, number, args)
        return
    codes = {"this": ROOT} | ({"against": args.against.absolute()} if args.against else {})
    made = by_code([*codes.values()][-1], "--make")  # the older code cannot read what a later one writes
    if made.returncode:
        sys.exit(made.stderr)
    print(
        f"{'slides':>7} {'samples':>9} {'GB':>6} {'code':>8} {'CPU s':>7} {'wall s':>7} {'planning':>8} MB open files"
    )
    for num_slides in args.slides:
        found = {name: [measured(code, num_slides, args) for _ in range(args.repeats)] for name, code in codes.items()}
        for name, taken in found.items():
            show(num_slides, name, [one for one in taken if one])
        if len({one["sha256"] for taken in found.values() for one in taken if one}) > 1:
            sys.exit(f"{num_slides} slides: the shards have other bytes")
    if args.figure:
        draw(args.folder / RESULTS, args.figure)


def show(num_slides: int, name: str, taken: list[dict[str, float]]) -> None:
    if taken:
        one = {key: statistics.median(t[key] for t in taken) for key in taken[0] if key != "sha256"}
        print(
            f"{num_slides:>7,} {one['samples']:>9,.0f} {one['shard_mb'] / 1e3:>6.2f} {name:>8} {one['cpu_s']:>7.1f} "
            f"{one['wall_s']:>7.1f} {one['plan_s']:>8.1f} {one['memory_mb']:.0f} {one['open_files']:.0f}",
            flush=True,
        )


def draw(results: Path, path: Path) -> None:
    """Draw time a sample, memory and open files by the number of slides, of each code."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    lines = [json.loads(line) for line in results.read_text().splitlines()]
    figure, axes = plt.subplots(1, 3, figsize=(9, 2.6), layout="constrained")
    ways = {
        "CPU ms a sample": lambda line: 1e3 * line["cpu_s"] / line["samples"],
        "open files": lambda line: line["open_files"],
        "memory beyond imports, MB": lambda line: line["memory_mb"],
    }
    for axis, (title, value_of) in zip(axes, ways.items(), strict=True):
        for name, label in (("against", "before"), ("this", "now")):
            points: dict[int, list[float]] = {}
            for line in lines:
                if line["code"] == name:
                    points.setdefault(line["slides"], []).append(value_of(line))
            numbers = sorted(points)
            axis.plot(numbers, [statistics.median(points[n]) for n in numbers], "o-", label=label)
        axis.set(xscale="log", xlabel="slides", title=title)
        axis.set_ylim(bottom=0)
    axes[0].legend(frameon=False)
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main()
