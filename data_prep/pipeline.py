"""Preparation from the slide table to the manifest: which slides are to do, then pack, then what is said about them."""

import time
from collections import Counter
from collections.abc import Collection
from dataclasses import replace

from data_prep.contents import check_failures, contents_of, finished, without_copies
from data_prep.execution.executor import Died, Executor
from data_prep.pack.agreement import agree_to_repack
from data_prep.pack.exchange import finish_exchange, shards_locked
from data_prep.pack.pack import Packing, pack, packing_of
from data_prep.pack.plan_file import read_plan
from data_prep.pack.shard_plan import changes_of, known_splits, packed_specs
from data_prep.pack.splits import AREA, Split
from data_prep.preparation import Preparation
from data_prep.report.doubts import doubts_about
from data_prep.report.qc import damaged_levels_of
from data_prep.report.summary import is_page_older, print_summary, write_failure_page, write_summary_page
from data_prep.slides.files import stamp_of
from data_prep.slides.table import SlideSpec
from data_prep.work.folder import check_settings
from data_prep.work.job import SlideJob, after_death
from data_prep.work.prepare_slide import prepare_slide
from data_prep.work.state import DoneSlide, FailedSlide, SlideState
from zoomldm.data.manifest import MANIFEST_NAME, Manifest
from zoomldm.errors import DataError, UserError, counted
from zoomldm.files import progress

OUTAGE = 3  # slides in a row that cannot be read
MPP_TOLERANCE = 0.05  # between a given scale and the file's


def run(
    preparation: Preparation,
    executor: Executor,
    *,
    part: tuple[int, int] | None = None,
    drop_images: bool = False,
    repack: bool = False,
    max_failed: float = 0.05,
) -> Manifest | None:
    """Prepare the slides that are not done, then pack them; with ``part`` only that share, without packing.

    Slides that the shards hold and this preparation does not name stay.

    Args:
        part: (3, 16) is the third of sixteen shares of the slides.
        drop_images: delete the slides' images once they are in shards, half of all bytes; a slide whose shards are to
            be written anew is then read anew.
        repack: finished shards may be made anew, and slides that are not named go.
        max_failed: part of the slides that may fail without that nothing is packed.

    Raises:
        ConfigError: the folder holds the work of another configuration, or finished shards would be made anew.
        DataError: nothing came of it, or too many slides failed.
        UserError: several slides in a row could not be read.
    """
    began = time.perf_counter()
    preparation.root.mkdir(parents=True, exist_ok=True)
    finish_exchange(preparation.root)
    check_settings(preparation.root, preparation.slide_settings)
    named, unnamed = preparation.specs, packed_specs(preparation, read_plan(preparation.root))
    if unnamed and not repack:
        print(f"not in slides=, but in the shards that are there, where they stay: {counted(len(unnamed), 'slide')}")
        preparation = replace(preparation, specs=sorted([*named, *unnamed], key=lambda spec: spec.name))
    known = known_splits(preparation)
    split = preparation.split(preparation.specs, known)
    for words in doubts_about(preparation, named, split):
        print(words)
    share = [spec for i, spec in enumerate(named) if part is None or i % part[1] == part[0] - 1]
    todo, stale = _to_read(preparation, share, split)
    told = {spec.name for spec in unnamed}
    _agree(preparation, known, todo, stale=stale, unnamed=told, repack=repack)
    for words, number in Counter(stale.values()).items():
        print(f"read again: {number} of {counted(len(share), 'slide')}: {words}")
    if len(todo) < len(share):
        print(f"done already: {len(share) - len(todo)} of {counted(len(share), 'slide')}")
    for fault in preparation.faults:
        print(f"failed: {fault.name}: {fault.reason}")
    prepare_slides(preparation, todo, split, executor)
    if part is not None:
        print(f"part {part[0]}/{part[1]} is done; when all are, run the same command without part= to pack the shards")
        return None
    manifest = pack_slides(preparation, known, executor, began, unnamed=told, repack=repack, max_failed=max_failed)
    if drop_images:
        for spec in preparation.specs:
            preparation.store(spec.name).drop_images()
    return manifest


def _to_read(preparation: Preparation, specs: list[SlideSpec], split: Split) -> tuple[list[SlideSpec], dict[str, str]]:
    """Return the slides that are not done, and of those whose work is no longer good, by name, the reason."""
    now = {"by_area": split.held_out == AREA, "regions": preparation.slide_settings.tissue.regions}
    todo = [spec for spec in specs if not preparation.store(spec.name).is_done(spec, **now)]
    why = {spec.name: preparation.store(spec.name).why_stale(spec, **now) for spec in todo}
    return todo, {name: words for name, words in why.items() if words}


def _agree(
    preparation: Preparation,
    known: dict[str, str],
    todo: list[SlideSpec],
    *,
    stale: dict[str, str],
    unnamed: set[str],
    repack: bool,
) -> None:
    """Ask about finished shards before a slide is read: by what is known of the slides until now.

    A slide in shards whose work is lost is read again; that its shards stay what they are is seen afterwards.
    """
    plan, states = read_plan(preparation.root), preparation.states()
    if plan is None or not (preparation.root / MANIFEST_NAME).is_file():
        return
    packed = [s for s in states if isinstance(s, DoneSlide) and s.slide in plan.slides]
    lost = {spec.name for spec in todo} - {state.slide for state in packed}
    plan = replace(plan, batches=[[name for name in batch if name not in lost] for batch in plan.batches])
    if packed:
        changes = changes_of(plan, contents_of(preparation, packed, known), stale)
        agree_to_repack(preparation.root, plan, changes, unnamed=unnamed, repack=repack)


def prepare_slides(preparation: Preparation, specs: list[SlideSpec], split: Split, executor: Executor) -> None:
    """Prepare slides one a job, the largest files first, and print a line for each that failed.

    Raises:
        UserError: several in a row could not be read: the storage is gone, not they.
    """
    settings, by_area = preparation.slide_settings, split.held_out == AREA
    specs = sorted(specs, key=lambda spec: -_size_of(spec))
    jobs = [SlideJob.of(spec, settings, preparation.root, by_area=by_area) for spec in specs]
    if not jobs:
        return
    in_a_row = 0
    with progress(total=len(jobs), label="slides", unit="slide") as bar:
        for number, state in executor.map(prepare_slide, jobs, encoder=settings.encoder):
            if isinstance(state, Died):
                state = after_death(jobs[number], state.reason)
            if isinstance(state, FailedSlide):
                stays = "; its work of before stays" if jobs[number].store.done() else ""
                bar.write(f"failed: {state.slide}: {state.reason}{stays}")
            elif not state.num_samples:
                bar.write(f"nothing: {state.slide}: {state.reason}")
            if isinstance(state, DoneSlide) and state.scale.disagreement > MPP_TOLERANCE:
                bar.write(
                    f"warning: {state.slide}: mpp {state.scale.mpp_level0:g} as given, its file says "
                    f"{state.scale.mpp_of_file:g}; the given one is taken"
                )
            if isinstance(state, DoneSlide) and state.damaged_levels:
                bar.write(f"warning: {state.slide}: {damaged_levels_of(state)}")
            bar.update()
            is_gone = isinstance(state, FailedSlide) and state.by_storage
            in_a_row = in_a_row + 1 if is_gone else 0
            if in_a_row == OUTAGE:
                raise UserError(
                    f"{OUTAGE} slides in a row could not be read, the last {state.path} ({state.reason}): the disk or "
                    f"mount with the slides is gone or faulty. {bar.n - OUTAGE} of {len(jobs)} slides are through, and "
                    "nothing was packed. Check the storage, then run the same command again: it goes on from here"
                )


def pack_slides(
    preparation: Preparation,
    known: dict[str, str],
    executor: Executor,
    began: float,
    *,
    unnamed: Collection[str] = (),
    repack: bool = False,
    max_failed: float = 1.0,
) -> Manifest:
    """Pack the slides that are done, if that has not been done; read those again whose dropped images are needed.

    known: splits that patients have already; began: when the command did, by ``time.perf_counter``.

    Raises:
        ConfigError: finished shards would be made anew.
        DataError: nothing came of it, too many slides failed, or a slide that would be needed again is gone or damaged.
    """
    tried: set[str] = set()
    with shards_locked(preparation.root):
        while True:
            found = _to_pack(preparation, known, unnamed=unnamed, repack=repack, max_failed=max_failed)
            if isinstance(found, Manifest):
                return found
            packing, states = found
            again = packing.slides_without_images()
            if not again:
                break
            if tried & {spec.name for spec in again}:
                raise DataError(
                    f"{preparation.root}: slides whose patches are to be packed anew could not be read again (the "
                    "reasons are above); the shards that are there stay"
                )
            print(f"read again for shards to be written, as their images were dropped: {counted(len(again), 'slide')}")
            prepare_slides(preparation, again, packing.contents.split, executor)
            tried |= {spec.name for spec in again}
        manifest = pack(packing, states, executor)
        print_summary(packing.contents, states, manifest, time.perf_counter() - began)
        return manifest


def _to_pack(
    preparation: Preparation,
    known: dict[str, str],
    *,
    unnamed: Collection[str],
    repack: bool,
    max_failed: float,
) -> Manifest | tuple[Packing, list[SlideState]]:
    """Return what is to be packed, with all slides' states, once that is agreed; the manifest where it is there."""
    plan = read_plan(preparation.root)
    states = without_copies(preparation, packed=plan.slides if plan and not repack else ())
    try:
        contents = contents_of(preparation, states, known)
        manifest = finished(states, contents)
        if manifest is not None:
            if is_page_older(preparation.root, states):
                write_summary_page(contents, states, manifest)
            print(f"{preparation.root}: nothing to do, the shards are complete (data.name=… makes a second set)")
            return manifest
        check_failures(preparation, preparation.states(), max_failed)
        packing = packing_of(contents)
    except DataError:
        write_failure_page(preparation, states)
        raise
    if plan is not None and (preparation.root / MANIFEST_NAME).is_file():
        agree_to_repack(preparation.root, plan, packing.changes, unnamed=unnamed, repack=repack)
    return packing, states


def _size_of(spec: SlideSpec) -> int:
    try:
        return stamp_of(spec.path)[0]
    except (OSError, DataError):
        return 0
