"""Preparation from the slide table to the manifest: which slides are to do, then pack, then what is said about them."""

import time

from data_prep.execution.executor import Died, Executor
from data_prep.pack.pack import pack, packing_of
from data_prep.pack.shard_plan import inputs_hash, known_splits, read_plan
from data_prep.pack.splits import AREA, Split
from data_prep.preparation import Contents, Preparation
from data_prep.report.summary import print_summary, write_failure_page
from data_prep.slides.files import stamp_of
from data_prep.slides.table import SlideSpec, is_frozen
from data_prep.work.folder import check_settings
from data_prep.work.prepare_slide import SlideJob, failed, prepare_slide
from data_prep.work.state import DoneSlide, FailedSlide, SlideState
from zoomldm.data.manifest import MANIFEST_NAME, Manifest
from zoomldm.errors import DataError
from zoomldm.files import progress


def run(
    preparation: Preparation, executor: Executor, *, part: tuple[int, int] | None = None, drop_images: bool = False
) -> Manifest | None:
    """Prepare the slides that are not done, then pack them; with ``part`` only that share, without packing.

    Args:
        part: (3, 16) is the third of sixteen shares of the slides.
        drop_images: delete the slides' images once they are in shards, half of all bytes; a slide whose shards are to
            be written anew is then read anew.

    Raises:
        ConfigError: the folder holds the work of another configuration.
        DataError: nothing came of it.
    """
    began = time.perf_counter()
    preparation.root.mkdir(parents=True, exist_ok=True)
    check_settings(preparation.root, preparation.slide_settings)
    known = known_splits(preparation)
    split = preparation.split(preparation.specs, known)
    for spec in preparation.specs:
        if is_frozen(spec.name):
            print(f"warning: {spec.name}: a frozen section by its barcode; diagnostic slides (-DX) are usually meant")
    share = [spec for i, spec in enumerate(preparation.specs) if part is None or i % part[1] == part[0] - 1]
    regions, by_area = preparation.slide_settings.tissue.regions, split.held_out == AREA
    todo = [s for s in share if not preparation.store(s.name).is_done(s, by_area=by_area, regions=regions)]
    if len(todo) < len(share):
        print(f"{len(share) - len(todo)} of {len(share)} slides are done already")
    for fault in preparation.faults:
        print(f"failed: {fault.name}: {fault.reason}")
    prepare_slides(preparation, todo, split, executor)
    if part is not None:
        print(f"part {part[0]}/{part[1]} is done; when all are, run the same command without part= to pack the shards")
        return None
    manifest = pack_slides(preparation, known, executor, began)
    if drop_images:
        for spec in preparation.specs:
            preparation.store(spec.name).drop_images()
    return manifest


def prepare_slides(preparation: Preparation, specs: list[SlideSpec], split: Split, executor: Executor) -> None:
    """Prepare slides one a job, the largest files first, and print a line for each that failed."""
    settings, by_area = preparation.slide_settings, split.held_out == AREA
    specs = sorted(specs, key=lambda spec: -_size_of(spec))
    jobs = [SlideJob(spec=spec, settings=settings, root=preparation.root, by_area=by_area) for spec in specs]
    if not jobs:
        return
    with progress(total=len(jobs), label="slides", unit="slide") as bar:
        for number, state in executor.map(prepare_slide, jobs, encoder=settings.encoder):
            if isinstance(state, Died):
                state = failed(specs[number], f"{specs[number].path}: {state.reason}")
                jobs[number].store.write_state(state)
            if isinstance(state, FailedSlide):
                bar.write(f"failed: {state.slide}: {state.reason}")
            elif not state.num_samples:
                bar.write(f"nothing: {state.slide}: {state.reason}")
            bar.update()


def pack_slides(preparation: Preparation, known: dict[str, str], executor: Executor, began: float) -> Manifest:
    """Pack the slides that are done, if that has not been done; read those again whose dropped images are needed.

    known: splits that patients have already; began: when the command did, by ``time.perf_counter``.

    Raises:
        DataError: nothing came of it, or a slide that would be needed again is gone.
    """
    while True:
        states = preparation.states()
        try:
            contents = contents_of(preparation, states, known)
            manifest = finished(states, contents)
            if manifest is not None:
                print(f"{preparation.root}: nothing to do, the shards are complete (data.name=… makes a second set)")
                return manifest
            packing = packing_of(contents)
        except DataError:
            write_failure_page(preparation, states)
            raise
        again = packing.slides_without_images()
        if not again:
            break
        print(f"{len(again)} slides are read again: their shards are to be written, and their images were dropped")
        prepare_slides(preparation, again, contents.split, executor)
    manifest = pack(packing, states, executor)
    print_summary(contents, states, manifest, time.perf_counter() - began)
    return manifest


def contents_of(preparation: Preparation, states: list[SlideState], known: dict[str, str]) -> Contents:
    """Return what is to be packed: the slides that are done; where one patient is left, split by area.

    Raises:
        DataError: no slide is done.
    """
    done = sorted((state for state in states if isinstance(state, DoneSlide)), key=lambda state: state.slide)
    if not done:
        raise DataError("no slide could be prepared; the reasons are above")
    split = preparation.split([preparation.spec_of[state.slide] for state in done], known)
    return Contents(preparation=preparation, done=done, split=split)


def finished(states: list[SlideState], contents: Contents) -> Manifest | None:
    """Return the manifest if it was made of exactly these slides and settings."""
    plan = read_plan(contents.root)
    if plan is None or not (contents.root / MANIFEST_NAME).is_file():
        return None
    return Manifest.load(contents.root) if plan.inputs_sha256 == inputs_hash(states, contents) else None


def _size_of(spec: SlideSpec) -> int:
    try:
        return stamp_of(spec.path)[0]
    except (OSError, DataError):
        return 0
