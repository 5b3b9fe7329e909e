"""What is to be packed: the slides that are done, without copies, if enough are; and whether that is done already."""

from collections.abc import Collection

from data_prep.pack.added import WORK_COLUMNS
from data_prep.pack.plan_file import read_plan
from data_prep.pack.shard_plan import LEGACY_VERSION, PACKING_VERSION, inputs_hash
from data_prep.pack.write import is_there
from data_prep.preparation import Contents, Preparation
from data_prep.work.state import DoneSlide, FailedSlide, SlideState
from zoomldm.data.manifest import MANIFEST_NAME, Manifest
from zoomldm.data.shards import column_path
from zoomldm.errors import DataError


def without_copies(preparation: Preparation, packed: Collection[str]) -> list[SlideState]:
    """Return the slides' states, those with the content of another slide as failed: patients and splits would mix.

    The first by name stays, before it one that is ``packed``; several that are packed stay and are named.
    """
    states, first = preparation.states(), {}
    for state in sorted(states, key=lambda s: (s.slide not in packed, s.slide)):
        if isinstance(state, DoneSlide):
            first.setdefault(state.file.quick_hash, state)
    kept: list[SlideState] = []
    for state in states:
        same = first[state.file.quick_hash] if isinstance(state, DoneSlide) else state
        if same is not state:
            reason = f"{state.path}: the same content as slide {same.slide} ({same.path})"
            print(f"warning: {state.slide}: {reason}" + ("" if state.slide in packed else "; it is left out"))
            if state.slide not in packed:
                state = FailedSlide(slide=state.slide, patient=state.patient, path=state.path, reason=reason)
        kept.append(state)
    return kept


def check_failures(preparation: Preparation, states: list[SlideState], max_failed: float) -> None:
    """Refuse to pack where too many slides failed: splits and standardisation would be those of what is left.

    Raises:
        DataError: says how many.
    """
    failed = sum(isinstance(state, FailedSlide) for state in states) + len(preparation.faults)
    total = len(states) + len(preparation.faults)
    if failed > max_failed * total:
        raise DataError(
            f"{preparation.root}: {failed} of {total} slides failed, more than max_failed={max_failed:g} of them; "
            "nothing is packed. Mend them and run the same command again (the others are kept), or take what there "
            "is with max_failed=1"
        )


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
    """Return the manifest if it was made of exactly these slides and settings, and its shards are there."""
    plan = read_plan(contents.root)
    if plan is None or not (contents.root / MANIFEST_NAME).is_file():
        return None
    version = PACKING_VERSION if plan.made_of is not None else LEGACY_VERSION
    if plan.inputs_sha256 != inputs_hash(states, contents, version):
        return None
    manifest = Manifest.load(contents.root)
    lost = [
        f"{shard.path}.{column}.tar"
        for shard in manifest.shards
        for column, facts in shard.columns.items()
        if column in WORK_COLUMNS and not is_there(column_path(contents.root / shard.path, column), facts)
    ]
    for name in lost:
        print(f"{contents.root / name}: missing or cut; it is made again from the slides' work")
    return None if lost else manifest
