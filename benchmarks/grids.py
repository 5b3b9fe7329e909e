"""Grids kept with each sample, or one memory-mapped map a slide: which is faster to read? `make bench-grids`

    samples   a grid per sample in a tar, rows and cells beside each other, read by byte offset (what the shards do)
    map       a slide's rows (1 + n, D) and cells (tiles_y, tiles_x) as two .npy files, mapped; a sample is cut out

Both give a batch of 64 samples, all magnifications alike often, as rows and cells in the process's memory.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import numpy as np

from zoomldm.data.manifest import EncoderInfo, Manifest, ShardInfo
from zoomldm.data.reader import SampleSource
from zoomldm.data.schema import encode_grid, make_key
from zoomldm.data.shards import column_path, write_column
from zoomldm.files import progress
from zoomldm.ladder import PAPER_LADDER

LADDER, DIM, BATCH = PAPER_LADDER, 384, 64
TILES, RADIUS = 190, 58
"""A slide's side in 20x tiles, and the radius of its tissue: 10,600 tiles, the mean of the paper's slides."""
SAMPLES_A_SLIDE = {0: 100, 1: 100, 2: 100, 3: 100, 4: 40, 5: 12, 6: 4, 7: 2}

Window = tuple[int, int, int]
"""Slide, and the window's corner in tiles (y, x)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("cache/bench-grids"), help="takes 2 GB")
    parser.add_argument("--slides", type=int, default=48)
    parser.add_argument("--batches", type=int, default=200, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="the ways take turns; medians are shown")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/grids.json"))
    chosen = parser.parse_args()
    windows = {k: windows_of(k, chosen.slides) for k in SAMPLES_A_SLIDE}
    manifest = written(chosen.folder, windows, chosen.slides)
    batches = [draw(windows, seed) for seed in range(chosen.batches)]
    ways: dict[str, Callable[[], Iterator[int]]] = {
        "samples": lambda: from_samples(manifest, batches),
        "map": lambda: from_maps(chosen.folder, windows, batches, chosen.slides),
    }
    figures: dict[str, list[float]] = {}
    for _ in range(chosen.rounds):
        for cold in (False, True):
            for name, way in ways.items():
                if cold:
                    evict(chosen.folder)
                else:
                    sum(way())
                began = time.perf_counter()
                num_bytes = sum(way())
                rate = num_bytes / (time.perf_counter() - began) / 1e6
                figures.setdefault(f"{name}, {'cold' if cold else 'warm'}", []).append(rate)
    sizes = {
        "samples": sum(p.stat().st_size for p in chosen.folder.glob("shards/**/*.tar")),
        "map": sum(p.stat().st_size for p in chosen.folder.glob("maps/*.npy")),
    }
    mean_bytes = num_bytes / chosen.batches / BATCH
    print("| way | MB/s | samples/s | MB on disk |\n|---|---|---|---|")
    for name, rates in sorted(figures.items()):
        rate = statistics.median(rates)
        size = sizes[name.split(",")[0]] / 1e6
        print(f"| {name} | {rate:,.0f} | {1e6 * rate / mean_bytes:,.0f} | {size:,.0f} |")
    results = {"mb_per_s": figures, "bytes": sizes, "date": date.today().isoformat()}
    results["machine"] = f"{platform.machine()}, {os.cpu_count()} cores"
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(results, indent=2) + "\n")


def slide_cells() -> np.ndarray:
    """Return row numbers of a slide's tiles, (TILES, TILES) int32: a disc of tissue, numbered as it is read."""
    y, x = np.mgrid[0:TILES, 0:TILES] - TILES / 2
    tissue = y**2 + x**2 < RADIUS**2
    cells = np.zeros((TILES, TILES), np.int32)
    cells[tissue] = np.arange(1, 1 + tissue.sum())
    return cells


def slide_rows(slide: int, count: int) -> np.ndarray:
    """Return made-up embeddings of a slide, (1 + count, DIM) float16."""
    return np.random.default_rng(slide).integers(0, 1 << 14, (1 + count, DIM), np.uint16).view(np.float16)


def windows_of(rung: int, slides: int) -> list[Window]:
    """Return the places of a magnification's samples, their centres in tissue as far as the slide's edge allows."""
    rng, side, found = np.random.default_rng(rung), LADDER[rung].grid_side, []
    for slide in range(slides):
        for _ in range(SAMPLES_A_SLIDE[rung]):
            angle, radius = rng.uniform(0, 2 * np.pi), RADIUS * np.sqrt(rng.uniform(0, 0.9))
            centre = TILES / 2 + radius * np.array([np.sin(angle), np.cos(angle)])
            y, x = np.clip((centre - side / 2).astype(int), 0, TILES - side).tolist()
            found.append((slide, y, x))
    return found


def cut(cells: np.ndarray, rows: np.ndarray, window: Window, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a sample's grid from its slide's map: cells (side, side) uint16 and rows (1 + n, DIM)."""
    _, y, x = window
    numbers = cells[y : y + side, x : x + side]
    tissue = numbers > 0
    wanted = numbers[tissue]
    part = np.empty((1 + len(wanted), DIM), np.float16)
    part[0] = rows[0]
    np.take(rows, wanted, axis=0, out=part[1:])
    renumbered = np.zeros((side, side), np.uint16)
    renumbered[tissue] = np.arange(1, 1 + len(wanted))
    return renumbered, part


def written(folder: Path, windows: dict[int, list[Window]], slides: int) -> Manifest:
    """Write both forms, where they are not there yet."""
    config = {"slides": slides, "samples": {str(k): n for k, n in SAMPLES_A_SLIDE.items()}, "tiles": [TILES, RADIUS]}
    if (folder / "manifest.json").is_file():
        found = Manifest.load(folder)
        if found.config == config:
            return found
        shutil.rmtree(folder)
    cells = slide_cells()
    all_rows = [slide_rows(slide, int(cells.max())) for slide in range(slides)]
    (folder / "maps").mkdir(parents=True)
    for slide, rows in enumerate(all_rows):
        np.save(folder / f"maps/{slide}.rows.npy", rows)
        np.save(folder / f"maps/{slide}.cells.npy", cells)
    shards = []
    with progress(total=sum(map(len, windows.values())), label="writing shards", unit="sample") as bar:
        for k, places in windows.items():
            side, path = LADDER[k].grid_side, f"shards/train/{LADDER[k].label}/00000"
            tar = column_path(folder / path, "grid")
            tar.parent.mkdir(parents=True)
            grids = (cut(cells, all_rows[place[0]], place, side) for place in places)
            made = ((make_key("slide", side, i, 0), encode_grid(*grid)) for i, grid in enumerate(grids))
            write_column(tar, made)
            columns = {"grid": {"bytes": tar.stat().st_size, "sha256": ""}}
            label = LADDER[k].magnification
            shards.append(
                ShardInfo(split="train", magnification=label, path=path, num_samples=len(places), columns=columns)
            )
            bar.update(len(places))
    manifest = Manifest(
        name="grids",
        ladder=LADDER,
        encoder=EncoderInfo(name="synthetic", dim=DIM, weights_sha256=None, input_px=256, mpp=0.5),
        columns={"grid": {}},
        shards=shards,
        counts={"train": {LADDER[k].label: len(places) for k, places in windows.items()}},
        patients={"train": ["p"]},
        config=config,
    )
    manifest.save(folder)
    return manifest


def draw(windows: dict[int, list[Window]], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a batch's rungs and sample numbers, each (BATCH,)."""
    rng = np.random.default_rng(seed)
    rung = rng.permutation(np.arange(BATCH) % len(windows))
    return rung, np.array([rng.integers(len(windows[k])) for k in rung.tolist()])


def from_samples(manifest: Manifest, batches: list[tuple[np.ndarray, np.ndarray]]) -> Iterator[int]:
    """Read every batch from the shards; yield the bytes of each."""
    source = SampleSource(manifest, split="train", columns=("grid",))
    block = np.empty(0, np.uint8)
    for rung, index in batches:
        reading = source.outlined(rung, index)
        if len(block) < reading.num_bytes:
            block = np.empty(reading.num_bytes, np.uint8)
        reading.into(block)  # the same memory again, as a loader's worker does
        yield reading.num_bytes


def from_maps(
    folder: Path, windows: dict[int, list[Window]], batches: list[tuple[np.ndarray, np.ndarray]], slides: int
) -> Iterator[int]:
    """Cut every batch out of the maps; yield the bytes of each."""
    maps = [
        [np.asarray(np.load(folder / f"maps/{n}.{part}.npy", mmap_mode="r")) for part in ("cells", "rows")]
        for n in range(slides)
    ]
    block = np.empty(0, np.float16)
    for rung, index in batches:
        places = [(windows[k][i], LADDER[k].grid_side) for k, i in zip(rung.tolist(), index.tolist())]
        found = [maps[place[0]][0][place[1] : place[1] + s, place[2] : place[2] + s] for place, s in places]
        wanted = [numbers[numbers > 0] for numbers in found]
        total = sum(1 + len(numbers) for numbers in wanted)
        if block.size < total * DIM:
            block = np.empty(total * DIM, np.float16)
        rows, start, cell_bytes = block[: total * DIM].reshape(total, DIM), 0, 0
        for (place, _), numbers, which in zip(places, found, wanted):
            stored = maps[place[0]][1]
            rows[start] = stored[0]
            np.take(stored, which, axis=0, out=rows[start + 1 : start + 1 + len(which)])
            cells = np.full(numbers.shape, start, np.int32)
            cells[numbers > 0] = np.arange(start + 1, start + 1 + len(which))
            start, cell_bytes = start + 1 + len(which), cell_bytes + cells.nbytes
        yield rows.nbytes + cell_bytes


def evict(folder: Path) -> None:
    """Put both forms out of the page cache."""
    for path in [*folder.glob("shards/**/*.tar"), *folder.glob("maps/*.npy")]:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


if __name__ == "__main__":
    main()
