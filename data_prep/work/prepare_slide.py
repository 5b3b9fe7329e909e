"""The recipe of one slide: mask, regions, one read that makes patches and rows, and a state that tells the truth."""

import time
import traceback
from dataclasses import dataclass

import numpy as np

from data_prep.execution.encoding.own import get_encoder
from data_prep.execution.encoding.queue import TileQueue
from data_prep.fold.area import Area, find_area
from data_prep.fold.quadtree import Fold, FoldResult, union_of
from data_prep.fold.regions import RungRegions, find_regions
from data_prep.settings import SlideSettings
from data_prep.slides.files import quick_hash
from data_prep.slides.readers.base import UnreadableError
from data_prep.slides.slide import Slide
from data_prep.tissue.mask import TissueMask, find_tissue
from data_prep.work.images import ImageWriter
from data_prep.work.job import SlideJob, failed, reason_of
from data_prep.work.picture import picture_of
from data_prep.work.stale import told_of
from data_prep.work.state import WORK_VERSION, DoneSlide, FailedSlide, FileFacts, ScaleFacts, SlideState
from data_prep.work.storage import is_storage_fault
from data_prep.work.store import SlideStore
from zoomldm.encoder.base import Encoder
from zoomldm.errors import DataError, UserError
from zoomldm.files import raise_if_disk_fault

MAX_LISTED = 50


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What is to be read of a slide: its mask, its regions by rung, and the tiles to encode (tiles_y, tiles_x)."""

    mask: TissueMask
    area: Area
    regions: list[RungRegions]
    encode: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """The tiles' rows (1 + n, D), the map of row numbers (tiles_y, tiles_x), what failed, and the encoder's seconds."""

    rows: np.ndarray
    cells: np.ndarray
    fold: FoldResult
    elapsed_s: float


def prepare_slide(job: SlideJob) -> SlideState:
    """Do one slide and return its state; a slide that cannot be read gets the state ``failed`` with its reason.

    Another process may do the same slide: the second waits for the first and takes its result.

    Raises:
        UserError: faults that are not the slide's: a full disk, missing encoder weights.
        Exception: a mistake of ours; it must not pass for a fault of the slide's.
    """
    encoder, store = get_encoder(job.settings.encoder), job.store
    with store.lock():
        if job.is_whole():
            return store.state()
        attempts = store.attempts(job.spec.path)
        try:
            attempts.check()
        except DataError as error:
            state = failed(job.spec, str(error))
            store.note_failure(state)
            return state
        with attempts.one(), store.written_aside() as aside:
            state = _attempt(job, encoder, aside)
            if isinstance(state, FailedSlide) and store.done() is not None:  # good work stays
                store.note_failure(state, aside.error_path.read_text())
                aside.discard()
            else:
                aside.write_state(state)
    return state


def _attempt(job: SlideJob, encoder: Encoder, aside: SlideStore) -> SlideState:
    try:
        return _prepare(job, encoder, aside)
    except (DataError, UnreadableError, OSError, MemoryError) as error:  # a damaged header may promise any size
        if isinstance(error, OSError):
            raise_if_disk_fault(error, aside.folder)
        aside.clear()
        aside.error_path.write_text(traceback.format_exc())
        return failed(job.spec, reason_of(job.spec, error), by_storage=is_storage_fault(job.spec.path, error))


def _prepare(job: SlideJob, encoder: Encoder, aside: SlideStore) -> DoneSlide:
    began, cpu = time.perf_counter(), time.process_time()
    slide = _open(job)
    try:
        layout = lay_out(slide, job)
        images = ImageWriter(aside.images_path, slide, job.settings, layout.regions)
        encoded = _read(slide, job.settings, layout, encoder, images)
        slide.check_unchanged()
        samples = [images.samples(k) for k in range(len(layout.regions))]
        aside.save_rows(encoded.rows, encoder)
        aside.save_samples(encoded.cells, samples)
        aside.qc_path.write_bytes(picture_of(layout.mask, encoded.cells > 0, layout.regions))
        counts = {chosen.rung.label: len(rung.spans) for chosen, rung in zip(layout.regions, samples, strict=True)}
        return _state(
            job, slide, layout, encoded, encoder, counts, (time.perf_counter() - began, time.process_time() - cpu)
        )
    finally:
        slide.close()


def _open(job: SlideJob) -> Slide:
    """Open the slide; whatever its file makes a library raise is the file's fault, not ours."""
    try:
        return Slide(job.spec, job.settings.ladder.base_mpp, job.settings.readers, use_icc=job.settings.icc)
    except (DataError, OSError):
        raise
    except Exception as error:
        if isinstance(error, UserError) and not isinstance(error.__cause__, ValueError):
            raise  # no such reader
        reason = f"cannot be opened ({type(error).__name__}: {error}); check the file or copy it again"
        raise DataError(f"{job.spec.path}: {reason}") from error


def lay_out(slide: Slide, job: SlideJob) -> Layout:
    """Find tissue and regions on the thumbnail, and tell the slide its glass."""
    settings, ladder = job.settings, job.settings.ladder
    mask = find_tissue(slide, ladder.patch_px, ladder.base_mpp, settings.tissue)
    slide.glass = mask.glass
    area = find_area(mask.fraction, ladder, settings.area_test_fraction)
    regions = find_regions(
        mask.fraction,
        ladder,
        settings.regions,
        slide=job.spec.name,
        seed=settings.seed,
        area=area if job.by_area else None,
    )
    encode = union_of(regions, mask.fraction.shape)
    if not settings.encode_background:
        encode &= mask.fraction >= settings.tissue.min_tile
    return Layout(mask=mask, area=area, regions=regions, encode=encode)


def _read(slide: Slide, settings: SlideSettings, layout: Layout, encoder: Encoder, images: ImageWriter) -> Encoded:
    """Read the slide once, writing its patches and encoding its tiles; row 0 is glass."""
    p, shape = settings.ladder.patch_px, layout.encode.shape
    queue = TileQueue(encoder)
    queue.add(np.broadcast_to(layout.mask.glass, (1, p, p, 3)))
    cells = np.zeros(shape, np.int32)
    num_rows = 1

    def on_tiles(corners: np.ndarray, tiles: np.ndarray) -> None:
        nonlocal num_rows
        cells[corners[:, 0], corners[:, 1]] = np.arange(num_rows, num_rows + len(tiles))
        num_rows += len(tiles)
        queue.add(tiles)

    with images:
        fold = Fold(slide.read_boxes, settings.ladder, shape, layout.regions, layout.encode).run(
            images.emit, on_tiles, layout.mask.glass
        )
    rows = queue.finish()
    if not np.isfinite(rows).all():
        raise DataError(f"{slide.path}: encoder {encoder.name} gave numbers that are not finite; check its weights")
    return Encoded(rows=rows, cells=cells, fold=fold, elapsed_s=queue.elapsed_s)


def _state(
    job: SlideJob,
    slide: Slide,
    layout: Layout,
    encoded: Encoded,
    encoder: Encoder,
    counts: dict[str, int],
    elapsed_s: tuple[float, float],
) -> DoneSlide:
    spec, scale, p = job.spec, slide.scale, job.settings.ladder.patch_px
    native = slide.reader.native(scale.level)
    unreadable_px0 = [slide.to_px0(x * p, y * p) for y, x in encoded.fold.unreadable]
    return DoneSlide(
        slide=spec.name,
        patient=spec.patient,
        path=str(spec.path),
        reason="" if any(counts.values()) else "no region has enough tissue",
        file=FileFacts(bytes=slide.stamp[0], mtime_ns=slide.stamp[1], quick_hash=quick_hash(slide.path)),
        format=slide.vendor,
        scale=_scale_facts(slide),
        size_px=(slide.width_px, slide.height_px),
        tissue=round(float(layout.mask.fraction.mean()), 6),
        pen=round(layout.mask.pen, 6),
        glass=layout.mask.glass.tolist(),
        area={"axis": layout.area.axis, "cut": layout.area.cut},
        by_area=job.by_area,
        counts=counts,
        num_tiles_encoded=len(encoded.rows) - 1,
        encoder=encoder.describe(),
        unreadable_tiles=len(unreadable_px0),
        unreadable_px0=unreadable_px0[:MAX_LISTED],
        regions_skipped=encoded.fold.num_regions_skipped,
        reader=slide.reader.decoder(scale.level),
        decodes={"native_tiles": len(native.touched), "decoded": native.num_decoded} if native else None,
        elapsed_s=round(elapsed_s[0], 3),
        cpu_s=round(elapsed_s[1], 3),
        encode_s=round(encoded.elapsed_s, 3),
        told=told_of(spec, regions=job.settings.tissue.regions),
        icc=slide.icc_status,
        work_version=WORK_VERSION,
    )


def _scale_facts(slide: Slide) -> ScaleFacts:
    scale = slide.scale
    return ScaleFacts(
        mpp_level0=scale.mpp_level0,
        mpp_true=scale.mpp_true,
        source=scale.source,
        method=scale.method,
        level=scale.level,
        pitch_px0=slide.pitch_px0,
        origin_level=(slide.x_level, slide.y_level),
        mpp_of_file=slide.mpp_of_file,
    )
