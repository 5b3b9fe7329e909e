"""Compare preparation with the plain way and with decoding alone, on one slide, interleaved: ``make bench-prep``.

    ours     one pass: tissue mask, native tiles, quadtree, encoder, patches written
    plain    as the original recipe: each magnification's patches read on their own, and the 20x tiles under each of its
             regions read and encoded again for its grid
    tissue   the 20x tissue tiles decoded once with OpenSlide, and nothing else
    regions  all that ours reads decoded once with OpenSlide: the regions with the glass in them, and nothing else

All take the same slide, the same tissue tiles and the same encoder. Prints medians, rates and ratios. ``--mpp``
makes of a plain TIFF the scan of another magnification: at 0.25 a tile is four times the pixels, as in most of TCGA.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))  # one core, as a worker has

import numpy as np
import openslide
import tifffile
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from slide_settings import paper_settings  # noqa: E402

from data_prep.execution.encoding.own import get_encoder, share  # noqa: E402
from data_prep.execution.encoding.queue import TileQueue  # noqa: E402
from data_prep.execution.local import LocalExecutor  # noqa: E402
from data_prep.fold.quadtree import union_of  # noqa: E402
from data_prep.fold.regions import find_regions  # noqa: E402
from data_prep.settings import SlideSettings  # noqa: E402
from data_prep.slides.slide import Slide  # noqa: E402
from data_prep.slides.table import SlideSpec  # noqa: E402
from data_prep.tissue.mask import find_tissue  # noqa: E402
from data_prep.work.job import SlideJob  # noqa: E402
from data_prep.work.prepare_slide import prepare_slide  # noqa: E402
from data_prep.work.state import FailedSlide, SlideState  # noqa: E402
from zoomldm.config import Option  # noqa: E402
from zoomldm.data.schema import encode_image  # noqa: E402
from zoomldm.encoder.base import Encoder  # noqa: E402

READERS = tuple(
    Option("reader", {"_target_": f"data_prep.slides.readers.{name}"})
    for name in ("level.LevelReader", "openslide.OpenSlideReader")
)


class TinyViT(Encoder):
    """A real vision transformer of random weights, for its cost: ViT-S/16 or smaller, through timm."""

    batch_size = 64

    def __init__(self, name: str, side_px: int) -> None:
        import timm
        import torch

        torch.set_num_threads(1)
        self.name = name
        self.net = timm.create_model(name, pretrained=False, num_classes=0, img_size=side_px).eval()
        self.dim = self.net.num_features

    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            pixels = torch.from_numpy(np.ascontiguousarray(tiles)).permute(0, 3, 1, 2).float() / 127.5 - 1
            return self.net(pixels).numpy()


tiny_vit = cache(TinyViT)


def settings_of(args: argparse.Namespace) -> SlideSettings:
    ladder = {"patch_px": args.patch_px, "num_rungs": args.num_rungs}
    words = [f"data.ladder.{name}={value}" for name, value in ladder.items()]
    words += ["reader=[auto]", "data.min_tissue=0.25", f"data.tissue.cells_per_tile={max(4, args.patch_px // 16)}"]
    encoder = Option("encoder", {"_target_": "zoomldm.encoder.stats.StatsEncoder", "name": args.encoder})
    return replace(paper_settings(*words), encoder=encoder)


def plain_way(spec: SlideSpec, settings: SlideSettings, encoder: Encoder) -> int:
    """Read and encode every magnification on its own; return how many tiles were encoded."""
    ladder, slide = settings.ladder, Slide(spec, settings.ladder.base_mpp, READERS[1:])
    mask = find_tissue(slide, ladder.patch_px, ladder.base_mpp, settings.tissue)
    regions = find_regions(mask.fraction, ladder, settings.regions, slide=spec.name, seed=0)
    slide.close()
    p, encoded = ladder.patch_px, 0
    with openslide.OpenSlide(str(spec.path)) as reader:
        for chosen in regions:
            queue = TileQueue(encoder)  # full batches for the plain way as well
            side = chosen.rung.grid_side
            level = reader.get_best_level_for_downsample(side * slide.pitch_px0)
            size = round(p * side * slide.pitch_px0 / reader.level_downsamples[level])
            for y, x in zip(chosen.y.tolist(), chosen.x.tolist()):
                patch = reader.read_region(slide.to_px0(x * p, y * p), level, (size, size)).convert("RGB")
                encode_image(np.asarray(patch.resize((p, p), Image.Resampling.BOX)), settings.image_format)
                inside = mask.fraction[y : y + side, x : x + side] >= settings.tissue.min_tile
                tiles = [_tile(reader, slide, x + tx, y + ty, p) for ty, tx in zip(*np.nonzero(inside))]
                if tiles:
                    queue.add(np.stack(tiles))
                encoded += len(tiles)
            queue.finish()
    return encoded


def _tile(reader: openslide.OpenSlide, slide: Slide, x: int, y: int, p: int) -> np.ndarray:
    side = round(p * slide.pitch_px0)
    tile = reader.read_region(slide.to_px0(x * p, y * p), 0, (side, side)).convert("RGB")
    return np.asarray(tile if side == p else tile.resize((p, p), Image.Resampling.BOX))


def squares_of(spec: SlideSpec, settings: SlideSettings, square_px: int) -> tuple[dict[str, list], int, int]:
    """Return which squares hold tissue tiles and which regions, and their side, at level 0; and the tiles' pixels."""
    ladder, slide = settings.ladder, Slide(spec, settings.ladder.base_mpp, READERS[1:])
    mask = find_tissue(slide, ladder.patch_px, ladder.base_mpp, settings.tissue)
    union = union_of(
        find_regions(mask.fraction, ladder, settings.regions, slide=spec.name, seed=0), mask.fraction.shape
    )
    tiles = union & (mask.fraction >= settings.tissue.min_tile)
    group = max(1, square_px // ladder.patch_px)
    step = group * ladder.patch_px
    corners = {}
    for name, wanted in (("tissue", tiles), ("regions", union)):
        padded = np.pad(wanted, [(0, -n % group) for n in wanted.shape])
        squares = padded.reshape(padded.shape[0] // group, group, -1, group).any((1, 3))
        corners[name] = [slide.to_px0(x * step, y * step) for y, x in np.argwhere(squares).tolist()]
    slide.close()
    return corners, round(step * slide.pitch_px0), int(tiles.sum()) * ladder.patch_px**2


def decode_only(path: Path, corners: list[tuple[int, int]], side_px0: int) -> None:
    """Read squares of level 0 once through OpenSlide."""
    with openslide.OpenSlide(str(path)) as reader:
        for corner in corners:
            reader.read_region(corner, 0, (side_px0, side_px0))


def rescaled(path: Path, mpp: float, folder: Path) -> Path:
    """Copy a plain TIFF with another resolution: the same pixels as a scan of another magnification."""
    copy = shutil.copy(path, folder / f"{path.stem}-{mpp:g}{path.suffix}")
    os.chmod(copy, 0o644)
    with tifffile.TiffFile(copy, mode="r+") as tiff:
        for page in tiff.pages:
            for name in ("XResolution", "YResolution"):
                if name in page.tags:
                    page.tags[name].overwrite((round(1e6 / mpp), 100))  # pixels a centimetre
    with openslide.OpenSlide(str(copy)) as reader:
        if abs(float(reader.properties.get("openslide.mpp-x", 0)) / mpp - 1) > 1e-3:
            sys.exit(f"{path}: takes its scale from elsewhere than the resolution tag; --mpp needs a plain TIFF")
    return copy


def timed(function, *arguments) -> tuple[float, object]:
    """Return the processor's seconds in this process (what others do on the machine is left out) and the result."""
    began = time.process_time()
    result = function(*arguments)
    return time.process_time() - began, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slide", type=Path)
    parser.add_argument("--encoder", default="stats", help="stats, or a timm ViT such as vit_tiny_patch16_224")
    parser.add_argument("--mpp", type=float, help="rescale a copy of the slide: its level 0 then has this scale")
    parser.add_argument("--patch-px", type=int, default=64)
    parser.add_argument("--num-rungs", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--without-plain", action="store_true")
    parser.add_argument("--workers", action="store_true", help="also two copies of the slide with one and two workers")
    args = parser.parse_args()
    if args.mpp is not None and not 0.05 <= args.mpp <= 20:
        parser.error(f"--mpp {args.mpp:g}: expected 0.05 to 20")
    with tempfile.TemporaryDirectory(prefix="bench-prep-") as root:
        compare(args, Path(root))


def compare(args: argparse.Namespace, root: Path) -> None:
    settings = settings_of(args)
    encoder = encoder_of(settings)
    if args.mpp:
        args.slide = rescaled(args.slide, args.mpp, root)
    spec = SlideSpec(path=args.slide, name="bench", patient="bench")
    took: dict[str, list[float]] = {"ours": [], "plain": [], "tissue": [], "regions": []}
    plain_tiles = 0
    corners, side_px0, base_px = squares_of(spec, settings, 256)
    for number in range(args.repeats):
        again = replace(spec, name=f"bench-{number}")  # a slide that is done is not done again
        seconds, state = timed(prepare_slide, SlideJob(spec=again, settings=settings, root=root, by_area=False))
        took["ours"].append(seconds)
        for name in ("tissue", "regions"):
            seconds, _ = timed(decode_only, args.slide, corners[name], side_px0)
            took[name].append(seconds)
        if not args.without_plain:
            seconds, plain_tiles = timed(plain_way, spec, settings, encoder)
            took["plain"].append(seconds)
    if isinstance(state, FailedSlide):
        sys.exit(state.reason)
    median = {name: statistics.median(seconds) for name, seconds in took.items() if seconds}
    tiles = state.num_tiles_encoded
    print(
        f"{args.slide.name}, {state.scale.mpp_level0:g} um a pixel: {tiles:,} tiles of {args.patch_px} px, "
        f"encoder {args.encoder}; patches {state.counts}"
    )
    for name, seconds in median.items():
        print(f"  {name:>7}: {seconds:8.2f} CPU s   {base_px / seconds / 1e6:8.1f} tissue MP/s")
    if "plain" in median:
        ratio = median["plain"] / median["ours"]
        print(f"  ours is {ratio:.1f} times as fast as the plain way ({plain_tiles:,} tiles encoded there)")
    print(
        f"  ours takes {median['ours'] / median['tissue']:.2f} times what OpenSlide takes to decode the tissue tiles, "
        f"{median['ours'] / median['regions']:.2f} times what it takes to decode the regions"
    )
    if state.decodes:
        decodes = state.decodes
        print(
            f"  {decodes['decoded'] / decodes['native_tiles']:.3f} decodes a native tile ({decodes['native_tiles']:,})"
        )
    if args.workers:
        compare_workers(args, settings, root)


def encoder_of(settings: SlideSettings) -> Encoder:
    """Return the encoder and let this process use it: `stats`, or a vision transformer of random weights."""
    if settings.encoder.name != "stats":
        share(settings.encoder, tiny_vit(settings.encoder.name, settings.ladder.patch_px))
    return get_encoder(settings.encoder)


def prepare_with_its_encoder(job: SlideJob) -> SlideState:
    """Prepare a slide in a worker's process, which must build the vision transformer for itself."""
    encoder_of(job.settings)
    return prepare_slide(job)


def compare_workers(args: argparse.Namespace, settings: SlideSettings, root: Path) -> None:
    """Time four copies of the slide with one and with two workers, start-up left out by a first job for each."""
    specs = [SlideSpec(path=args.slide, name=f"bench{i}", patient="bench") for i in range(8)]
    jobs = [SlideJob(spec=spec, settings=settings, root=root, by_area=False) for spec in specs]
    seconds = {}
    for workers in (1, 2):
        began = None
        for number, _ in enumerate(LocalExecutor(workers).map(prepare_with_its_encoder, jobs[: 4 + workers])):
            if number == workers - 1:
                began = time.perf_counter()
        seconds[workers] = time.perf_counter() - began
    print(f"  two workers: {seconds[1] / seconds[2]:.2f} times the speed of one (4 slides, start-up left out)")


if __name__ == "__main__":
    main()
