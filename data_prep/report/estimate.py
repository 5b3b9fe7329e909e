"""What a preparation would make, said beforehand from thumbnails: patches, bytes and hours (``plan=true``)."""

from dataclasses import dataclass
from typing import Any

from data_prep.execution.executor import Died, Executor
from data_prep.fold.area import find_area
from data_prep.fold.quadtree import union_of
from data_prep.fold.regions import find_regions
from data_prep.pack.shard_plan import known_splits
from data_prep.pack.splits import AREA
from data_prep.preparation import Preparation
from data_prep.settings import SlideSettings
from data_prep.slides.readers.base import UnreadableError
from data_prep.slides.slide import Slide
from data_prep.slides.table import SlideSpec
from data_prep.tissue.mask import find_tissue
from data_prep.work.prepare_slide import reason_of
from zoomldm.errors import DataError
from zoomldm.files import progress

# Patches of TCGA-BRCA in the paper (section 4.1), 20x to 0.15625x.
PAPER_COUNTS = (12_000_000, 3_000_000, 750_000, 186_000, 57_000, 20_000, 7_000, 2_500)
PAPER_NAME = "brca_8mag"
BYTES_PER_PX = {"png": 1.35, "jpeg": 0.68}  # 256 px of a real H&E slide at 20x: PNG level 1, JPEG quality 95 4:4:4
# Pixels a second and core, of a real slide in JPEG: decoded and summed to base pixels; these folded, patches written.
READ_PX_S, FOLD_PX_S = 1.7e8, 7.5e7
TILES_S = {"stats": 8.0e7, "default": 2.5e7}  # pixels a second: stats on a core, networks a guess for a GPU


@dataclass(frozen=True)
class SlidePlan:
    """What one slide would give, by rung; ``num_tiles`` are encoded, ``num_base_px`` made of ``num_read_px``."""

    counts: tuple[int, ...]
    num_tiles: int
    num_base_px: int
    num_read_px: int
    grid_cells: tuple[int, ...]


@dataclass(frozen=True)
class PlanJob:
    spec: SlideSpec
    settings: SlideSettings
    by_area: bool


def plan_slide(job: PlanJob) -> SlidePlan | str:
    """Return what a slide would give, or why it cannot be read."""
    settings, ladder = job.settings, job.settings.ladder
    try:
        slide = Slide(job.spec, ladder.base_mpp, job.settings.readers)
        try:
            tissue = find_tissue(slide, ladder.patch_px, ladder.base_mpp, settings.tissue)
        finally:
            slide.close()
        area = find_area(tissue.fraction, ladder, settings.area_test_fraction) if job.by_area else None
        regions = find_regions(
            tissue.fraction, ladder, settings.regions, slide=job.spec.name, seed=settings.seed, area=area
        )
    except (DataError, UnreadableError, OSError, ValueError) as error:
        return reason_of(job.spec, error)
    union = union_of(regions, tissue.fraction.shape)
    num_base_px = int(union.sum()) * ladder.patch_px**2
    return SlidePlan(
        counts=tuple(len(chosen) for chosen in regions),
        num_tiles=int((union & (tissue.fraction >= settings.tissue.min_tile)).sum()),
        num_base_px=num_base_px,
        num_read_px=round(num_base_px * slide.scale.ratio**2),
        grid_cells=tuple(int(chosen.tissue.sum() * chosen.rung.grid_side**2) for chosen in regions),
    )


def print_plan(preparation: Preparation, executor: Executor) -> list[SlidePlan]:
    """Print patches by magnification (beside the paper's for its data), bytes and hours; return the slides' plans."""
    specs, settings = preparation.specs, preparation.slide_settings
    split = preparation.split(specs, known_splits(preparation))
    jobs = [PlanJob(spec, settings, split.held_out == AREA) for spec in specs]
    plans = []
    with progress(total=len(jobs), label="plan", unit="slide") as bar:
        for position, result in executor.map(plan_slide, jobs):
            if isinstance(result, SlidePlan):
                plans.append(result)
            else:
                reason = result.reason if isinstance(result, Died) else result
                bar.write(f"failed: {specs[position].name}: {reason}")
            bar.update()
    for fault in preparation.faults:
        print(f"failed: {fault.name}: {fault.reason}")
    print("\n".join(plan_lines(plans, preparation.pack_settings.name, settings)))
    return plans


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


def plan_lines(plans: list[SlidePlan], name: str, settings: SlideSettings) -> list[str]:
    """Return the plan as lines of text."""
    ladder = settings.ladder
    dim: Any = settings.encoder.arguments.get("dim") or {"stats": 24, "hipt": 384, "ctranspath": 768}.get(
        settings.encoder.name, 1024
    )
    is_paper = name == PAPER_NAME
    lines = [f"{'magnification':>14} {'patches':>12}" + (f" {'paper':>12}" if is_paper else "") + f" {'size':>10}"]
    total_bytes = 0.0
    for rung in ladder.rungs:
        count = sum(plan.counts[rung.index] for plan in plans)
        cells = sum(plan.grid_cells[rung.index] for plan in plans)
        size = count * (ladder.patch_px**2 * BYTES_PER_PX[settings.image_format] + 2 * rung.grid_side**2 + 3000)
        size += cells * dim * 2
        total_bytes += size
        paper = f" {PAPER_COUNTS[rung.index]:>12,}" if is_paper else ""
        lines.append(f"{rung.label:>14} {count:>12,}{paper} {readable_bytes(size):>10}")
    tiles = sum(plan.num_tiles for plan in plans)
    read_h = sum(plan.num_read_px / READ_PX_S + plan.num_base_px / FOLD_PX_S for plan in plans) / 3600
    rate = TILES_S.get(settings.encoder.name, TILES_S["default"])
    encode_h = tiles * ladder.patch_px**2 / rate / 3600
    where = "a core" if settings.encoder.name == "stats" else "a GPU"
    lines.append(
        f"{len(plans)} slides: about {readable_bytes(total_bytes)} of shards, and nearly as much of work that they are "
        f"packed from; reading takes {readable_hours(read_h)} of a core, encoding {tiles:,} tiles "
        f"{readable_hours(encode_h)} of {where}"
    )
    return lines
