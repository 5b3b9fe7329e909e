"""What a preparation would make, said beforehand from thumbnails: masks, patches, bytes and hours (``plan=true``)."""

from dataclasses import dataclass
from pathlib import Path

from data_prep.execution.executor import Died, Executor
from data_prep.fold.quadtree import union_of
from data_prep.pack.shard_plan import known_splits
from data_prep.pack.splits import AREA
from data_prep.preparation import Preparation
from data_prep.report.qc import template
from data_prep.settings import SlideSettings
from data_prep.slides.readers.base import UnreadableError
from data_prep.slides.slide import Slide
from data_prep.tissue.geojson import drawn_path
from data_prep.work.job import SlideJob, reason_of
from data_prep.work.picture import picture_of
from data_prep.work.prepare_slide import lay_out
from zoomldm.config import Option
from zoomldm.data.schema import slide_key
from zoomldm.encoder.base import Encoder
from zoomldm.errors import DataError
from zoomldm.files import progress, write_atomically
from zoomldm.ladder import Rung

# Patches of TCGA-BRCA in the paper (Table 1), 20x to 0.15625x.
PAPER_COUNTS = (12_000_000, 3_000_000, 750_000, 186_000, 57_000, 20_000, 7_000, 2_500)
PAPER_NAME = "brca_8mag"
BYTES_PER_PX = {"png": 1.35, "jpeg": 0.68}  # 256 px of a real H&E slide at 20x: PNG level 1, JPEG quality 95 4:4:4
# Pixels a second and core, of a real slide in JPEG: decoded and summed to base pixels; these folded, patches written.
READ_PX_S, FOLD_PX_S = 1.7e8, 7.5e7
CORE_PX_S, GPU_PX_S = 8.0e7, 2.5e7  # encoded: by an encoder without weights on a core, by a network (a guess)
BYTES_A_SAMPLE, BYTES_A_CHANNEL = 3000, 2  # metadata and tar; float16
FOLDER = "plan"


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What one slide would give; its picture, with the mask, lies beside the plan's page.

    Attributes:
        tissue, pen: parts of the slide.
        counts, grid_cells: patches, and entries of their grids that hold tissue, by rung.
        num_tiles: tiles to encode.
        num_base_px, num_read_px: base pixels to make, and the file's pixels that they are made of.
    """

    slide: str
    tissue: float
    pen: float
    counts: tuple[int, ...]
    grid_cells: tuple[int, ...]
    num_tiles: int
    num_base_px: int
    num_read_px: int


def estimate_slide(job: SlideJob) -> Estimate | str:
    """Return what a slide would give, or why it cannot be read."""
    try:
        slide = Slide(job.spec, job.settings.ladder.base_mpp, job.settings.readers, use_icc=job.settings.icc)
        try:
            layout = lay_out(slide, job)
            picture, contours = picture_of(layout.mask, layout.encode, layout.regions), layout.mask.contours()
        finally:
            slide.close()
    except (DataError, UnreadableError, OSError, ValueError) as error:
        return reason_of(job.spec, error)
    write_atomically(picture_path(job.root, job.spec.name), picture)
    write_atomically(drawn_path(job.root / FOLDER, job.spec.name), contours)
    num_base_px = int(union_of(layout.regions, layout.encode.shape).sum()) * job.settings.ladder.patch_px**2
    return Estimate(
        slide=job.spec.name,
        tissue=float(layout.mask.fraction.mean()),
        pen=layout.mask.pen,
        counts=tuple(len(chosen) for chosen in layout.regions),
        grid_cells=tuple(int(chosen.tissue.sum() * chosen.rung.grid_side**2) for chosen in layout.regions),
        num_tiles=int(layout.encode.sum()),
        num_base_px=num_base_px,
        num_read_px=round(num_base_px * slide.scale.ratio**2),
    )


def print_estimate(preparation: Preparation, executor: Executor) -> None:
    """Print patches by magnification (beside the paper's for its data), bytes and hours; write the page of masks."""
    specs, settings = preparation.specs, preparation.slide_settings
    by_area = preparation.split(specs, known_splits(preparation)).held_out == AREA
    jobs = [SlideJob.of(spec, settings, preparation.root, by_area=by_area) for spec in specs]
    estimates: list[Estimate] = []
    reasons = {fault.name: fault.reason for fault in preparation.faults}
    with progress(total=len(jobs), label="plan", unit="slide") as bar:
        for position, result in executor.map(estimate_slide, jobs):
            if isinstance(result, Estimate):
                estimates.append(result)
            else:
                reason = result.reason if isinstance(result, Died) else result
                reasons[specs[position].name] = reason
                bar.write(f"failed: {specs[position].name}: {reason}")
            bar.update()
    for fault in preparation.faults:
        print(f"failed: {fault.name}: {fault.reason}")
    sizes = [bytes_of(rung, estimates, settings) for rung in settings.ladder.rungs]
    print("\n".join(patch_lines(estimates, sizes, preparation)))
    print(cost_line(estimates, sum(sizes), settings))
    page = write_plan(preparation, estimates, reasons)
    print(f"look at {page} before you go on: every slide with its mask and regions; beside it the masks for QuPath")


def write_plan(preparation: Preparation, estimates: list[Estimate], reasons: dict[str, str]) -> Path:
    """Write the page of what would be taken of every slide; ``reasons`` why some cannot be read, by slide."""
    page = preparation.root / FOLDER / "index.html"
    content = template("plan.html").render(
        title=f"{preparation.pack_settings.name}: plan",
        estimates=sorted(estimates, key=lambda estimate: (sum(estimate.counts) > 0, estimate.tissue, estimate.slide)),
        reasons=reasons,
        labels=preparation.slide_settings.ladder.labels,
        picture_of=lambda slide: picture_path(preparation.root, slide).name,
    )
    write_atomically(page, content)
    return page


def picture_path(root: Path, slide: str) -> Path:
    """Return the picture of a slide beside the plan's page."""
    return root / FOLDER / f"{slide_key(slide)}.jpg"


def bytes_of(rung: Rung, estimates: list[Estimate], settings: SlideSettings) -> float:
    """Return the bytes of a magnification's shards."""
    count = sum(estimate.counts[rung.index] for estimate in estimates)
    cells = sum(estimate.grid_cells[rung.index] for estimate in estimates)
    image = settings.ladder.patch_px**2 * BYTES_PER_PX[settings.image_format]
    return count * (image + 2 * rung.grid_side**2 + BYTES_A_SAMPLE) + cells * dim_of(settings.encoder) * BYTES_A_CHANNEL


def patch_lines(estimates: list[Estimate], sizes: list[float], preparation: Preparation) -> list[str]:
    """Return the table of magnifications as lines of text."""
    is_paper = preparation.pack_settings.name == PAPER_NAME
    lines = [f"{'magnification':>14} {'patches':>12}" + (f" {'paper':>12}" if is_paper else "") + f" {'size':>10}"]
    for rung, size in zip(preparation.slide_settings.ladder.rungs, sizes, strict=True):
        count = sum(estimate.counts[rung.index] for estimate in estimates)
        paper = f" {PAPER_COUNTS[rung.index]:>12,}" if is_paper else ""
        lines.append(f"{rung.label:>14} {count:>12,}{paper} {readable_bytes(size):>10}")
    return lines


def cost_line(estimates: list[Estimate], num_bytes: float, settings: SlideSettings) -> str:
    """Return in words what the whole takes."""
    tiles = sum(estimate.num_tiles for estimate in estimates)
    read_h = sum(e.num_read_px / READ_PX_S + e.num_base_px / FOLD_PX_S for e in estimates) / 3600
    is_light = not settings.encoder.arguments.get("weights")
    encode_h = tiles * settings.ladder.patch_px**2 / (CORE_PX_S if is_light else GPU_PX_S) / 3600
    return (
        f"{len(estimates)} slides: about {readable_bytes(num_bytes)} of shards, and nearly as much of work that they "
        f"are packed from; reading takes {readable_hours(read_h)} of a core, encoding {tiles:,} tiles "
        f"{readable_hours(encode_h)} of {'a core' if is_light else 'a GPU'}"
    )


def dim_of(encoder: Option) -> int:
    """Return the width of an encoder's vectors."""
    return encoder.arguments.get("dim") or encoder.target(Encoder).dim


def readable_bytes(number: float) -> str:
    """Return bytes as people say them: 340 kB, 12.3 MB, 1,234.5 GB."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if number >= size:
            return f"{number / size:,.1f} {unit}"
    return f"{number / 1e3:,.0f} kB"


def readable_hours(hours: float) -> str:
    """Return a duration as people say it: 12 s, 3 min, 45.2 hours."""
    if hours >= 1:
        return f"{hours:,.1f} hours"
    return f"{hours * 60:.0f} min" if hours * 60 >= 2 else f"{hours * 3600:.0f} s"
