"""What a preparation would make, said beforehand from thumbnails: masks, patches, bytes and hours (``plan=true``)."""

from dataclasses import dataclass
from pathlib import Path

from data_prep.execution.executor import Died, Executor
from data_prep.fold.quadtree import union_of
from data_prep.pack.shard_plan import known_splits
from data_prep.pack.splits import AREA
from data_prep.preparation import Preparation
from data_prep.report.doubts import doubts_about, notes_about
from data_prep.report.hours import Work, hour_lines, speed_of
from data_prep.report.qc import template
from data_prep.settings import SlideSettings
from data_prep.slides.colour import APPLIED
from data_prep.slides.readers.base import UnreadableError
from data_prep.tissue.geojson import drawn_path
from data_prep.work.job import SlideJob, reason_of
from data_prep.work.picture import picture_of
from data_prep.work.prepare_slide import lay_out
from data_prep.work.read_slide import open_slide
from zoomldm.config import Option
from zoomldm.data.schema import slide_key
from zoomldm.encoder.base import Encoder
from zoomldm.errors import DataError, counted
from zoomldm.files import progress, write_atomically
from zoomldm.ladder import Rung

# Patches of TCGA-BRCA in the paper (Table 1), 20x to 0.15625x.
PAPER_COUNTS = (12_000_000, 3_000_000, 750_000, 186_000, 57_000, 20_000, 7_000, 2_500)
PAPER_NAME = "brca_8mag"
BYTES_PER_PX = {"png": 1.35, "jpeg": 0.68}  # 256 px of a real H&E slide at 20x: PNG level 1, JPEG quality 95 4:4:4
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
        num_icc_px: those of them to which a colour profile is applied.
    """

    slide: str
    tissue: float
    pen: float
    counts: tuple[int, ...]
    grid_cells: tuple[int, ...]
    num_tiles: int
    num_base_px: int
    num_read_px: int
    num_icc_px: int


def estimate_slide(job: SlideJob) -> Estimate | str:
    """Return what a slide would give, or why it cannot be read."""
    try:
        slide = open_slide(job.spec, job.settings)
        try:
            layout = lay_out(slide, job)
            picture, contours = picture_of(layout.mask, layout.encode, layout.regions), layout.mask.contours()
        finally:
            slide.close()
    except (DataError, UnreadableError, OSError, MemoryError) as error:
        return reason_of(job.spec, error)
    write_atomically(picture_path(job.root, job.spec.name), picture)
    write_atomically(drawn_path(job.root / FOLDER, job.spec.name), contours)
    num_base_px = int(union_of(layout.regions, layout.encode.shape).sum()) * job.settings.ladder.patch_px**2
    num_read_px = round(num_base_px * slide.scale.ratio**2)
    return Estimate(
        slide=job.spec.name,
        tissue=float(layout.mask.fraction.mean()),
        pen=layout.mask.pen,
        counts=tuple(len(chosen) for chosen in layout.regions),
        grid_cells=tuple(int(chosen.tissue.sum() * chosen.rung.grid_side**2) for chosen in layout.regions),
        num_tiles=int(layout.encode.sum()),
        num_base_px=num_base_px,
        num_read_px=num_read_px,
        num_icc_px=num_read_px if slide.icc_status == APPLIED else 0,
    )


def print_estimate(preparation: Preparation, executor: Executor) -> None:
    """Print patches by magnification (beside the paper's for its data), bytes and hours; write the page of masks."""
    specs, settings = preparation.specs, preparation.slide_settings
    split = preparation.split(specs, known_splits(preparation))
    for words in doubts_about(preparation, specs, split):
        print(words)
    by_area = split.held_out == AREA
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
    print("\n".join(cost_lines(estimates, sum(sizes), settings)))
    page = write_plan(preparation, estimates, reasons)
    print(f"look at {page} before you go on: every slide with its mask and regions; beside it the masks for QuPath")


def write_plan(preparation: Preparation, estimates: list[Estimate], reasons: dict[str, str]) -> Path:
    """Write the page of what would be taken of every slide; ``reasons`` why some cannot be read, by slide."""
    page = preparation.root / FOLDER / "index.html"
    content = template("plan.html").render(
        title=f"{preparation.pack_settings.name}: plan",
        estimates=sorted(estimates, key=lambda estimate: (sum(estimate.counts) > 0, estimate.tissue, estimate.slide)),
        reasons=reasons,
        notes=notes_about(preparation),
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


def cost_lines(estimates: list[Estimate], num_bytes: float, settings: SlideSettings) -> list[str]:
    """Return in words what the whole takes."""
    work = Work(
        num_read_px=sum(e.num_read_px for e in estimates),
        num_icc_px=sum(e.num_icc_px for e in estimates),
        num_base_px=sum(e.num_base_px for e in estimates),
        num_tiles=sum(e.num_tiles for e in estimates),
        num_samples=sum(sum(e.counts) for e in estimates),
        num_bytes=num_bytes,
    )
    speed = speed_of(settings.encoder, settings.ladder.patch_px)
    head = (
        f"{counted(len(estimates), 'slide')}: about {readable_bytes(num_bytes)} of shards, and nearly as much of work "
        "that they are packed from; about as long, over all workers together:"
    )
    return [head, *hour_lines(work, speed)]


def dim_of(encoder: Option) -> int:
    """Return the width of an encoder's vectors."""
    return encoder.arguments.get("dim") or encoder.target(Encoder).dim


def readable_bytes(number: float) -> str:
    """Return bytes as people say them: 340 kB, 12.3 MB, 1,234.5 GB."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if number >= size:
            return f"{number / size:,.1f} {unit}"
    return f"{number / 1e3:,.0f} kB"
