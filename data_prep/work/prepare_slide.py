"""The recipe of one slide: mask, regions, one read that makes patches and rows, and a state that tells the truth."""

import time
import traceback
from dataclasses import replace

from data_prep.execution.encoding.own import get_encoder
from data_prep.fold.area import find_area
from data_prep.fold.regions import find_regions
from data_prep.slides.files import quick_hash
from data_prep.slides.readers.base import UnreadableError
from data_prep.slides.slide import Slide
from data_prep.tissue.focus import FocusMap
from data_prep.work.cache import at_hand
from data_prep.work.images import ImageWriter
from data_prep.work.job import SlideJob, failed, reason_of
from data_prep.work.picture import picture_of
from data_prep.work.read_slide import Encoded, Layout, find_mask, open_slide, read_slide, tiles_to_encode
from data_prep.work.stale import told_of
from data_prep.work.state import WORK_VERSION, DoneSlide, FailedSlide, FileFacts, ScaleFacts, SlideState
from data_prep.work.storage import is_storage_fault
from data_prep.work.store import SlideStore
from zoomldm.encoder.base import Encoder
from zoomldm.errors import DataError
from zoomldm.files import raise_if_disk_fault, remove_tree

MAX_LISTED = 50


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
                remove_tree(aside.folder)
            else:
                aside.write_state(state)
    return state


def _attempt(job: SlideJob, encoder: Encoder, aside: SlideStore) -> SlideState:
    try:
        with at_hand(job.spec, job.settings.cache) as spec:
            state = _prepare(replace(job, spec=spec), encoder, aside)
        return replace(state, path=str(job.spec.path))
    except (DataError, UnreadableError, OSError, MemoryError) as error:  # a damaged header may promise any size
        if isinstance(error, OSError):
            raise_if_disk_fault(error, aside.folder)
        aside.clear()
        aside.error_path.write_text(traceback.format_exc())
        return failed(job.spec, reason_of(job.spec, error), by_storage=is_storage_fault(job.spec.path, error))


def _prepare(job: SlideJob, encoder: Encoder, aside: SlideStore) -> DoneSlide:
    began, cpu = time.perf_counter(), time.process_time()
    slide = open_slide(job.spec, job.settings)
    try:
        layout = lay_out(slide, job)
        focus = FocusMap(layout.encode.shape, slide.scale.mpp_true)
        images = ImageWriter(aside.images_path, slide, job.settings, layout, focus)
        with images:
            encoded = read_slide(slide, job.settings, layout, encoder, images.emit, focus=focus)
        slide.check_unchanged()
        samples = [images.samples(k) for k in range(len(layout.regions))]
        aside.save_rows(encoded.rows, encoder)
        aside.save_samples(encoded.cells, focus.values, samples)
        aside.qc_path.write_bytes(picture_of(layout.mask, encoded.cells > 0, layout.regions))
        aside.contours_path.write_text(layout.mask.contours())
        counts = {chosen.rung.label: len(rung.spans) for chosen, rung in zip(layout.regions, samples, strict=True)}
        state = _state(
            job, slide, layout, encoded, encoder, counts, (time.perf_counter() - began, time.process_time() - cpu)
        )
        return replace(state, focus=focus.median, soft=focus.soft, regions_blurred=images.num_blurred)
    finally:
        slide.close()


def lay_out(slide: Slide, job: SlideJob) -> Layout:
    """Find tissue and regions on the thumbnail, and tell the slide its glass."""
    settings, ladder = job.settings, job.settings.ladder
    mask = find_mask(slide, settings)
    area = find_area(mask.fraction, ladder, settings.area_test_fraction)
    regions = find_regions(
        mask.fraction,
        ladder,
        settings.regions,
        slide=job.spec.name,
        seed=settings.seed,
        area=area if job.by_area else None,
    )
    return Layout(mask=mask, area=area, regions=regions, encode=tiles_to_encode(mask, regions, settings))


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
        folds=round(layout.mask.folds, 6),
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
        damaged_levels=slide.damaged_levels,
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
