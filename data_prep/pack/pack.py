"""Per-slide work becomes shards, with a manifest at the end.

A shard that was finished under the same plan (shard_plan.py) is kept: a killed pack goes on where it stopped, and later
slides only add shards. Where finished shards must be made anew, that happens beside them (exchange.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from data_prep.execution.executor import Died, Executor
from data_prep.pack.added import what_is_to_be_added, with_added_columns
from data_prep.pack.exchange import NEW, begin, exchange, place_kept
from data_prep.pack.jobs import SHARDS, Counts, ShardJob, make_jobs
from data_prep.pack.plan_file import ShardPlan, read_plan
from data_prep.pack.shard_plan import Changes, changes_of, inputs_hash, is_all_anew, new_plan
from data_prep.pack.splits import AREA, Split
from data_prep.pack.statistics import is_standardised, one_encoder, train_statistics
from data_prep.pack.write import lost_columns, read_record, write_shard
from data_prep.preparation import Contents
from data_prep.slides.files import stamp_of
from data_prep.slides.table import SlideSpec
from data_prep.work.state import DoneSlide, SlideState
from zoomldm import __version__
from zoomldm.data.manifest import MANIFEST_NAME, EncoderInfo, Manifest, ShardInfo
from zoomldm.data.schema import SPLITS
from zoomldm.errors import DataError, UserError
from zoomldm.files import progress, sync_tree
from zoomldm.runs.provenance import git_state


@dataclass(frozen=True, kw_only=True)
class Packing:
    """What is to be packed: nothing is written or taken away before `pack`.

    Attributes:
        changes: what makes finished shards go.
        kept: old path of each shard that stays, by its new one.
        encoder: what the manifest says of it.
    """

    contents: Contents
    plan: ShardPlan
    changes: Changes
    kept: dict[str, str]
    encoder: dict[str, Any]
    jobs: list[ShardJob]
    counts: Counts
    dropped: dict[str, str]

    @property
    def in_place(self) -> bool:
        """Say whether no finished shard is touched, so that shards are added where the others are."""
        return not self.changes.batches

    def slides_to_write(self) -> set[str]:
        """Return the slides whose images go into shards that are not there yet."""
        return {slide.name for job in self.jobs if self._needs_images(job) for slide in job.slides}

    def _needs_images(self, job: ShardJob) -> bool:
        if job.path in self.kept:
            return False
        line = read_record(job)
        return line is None or bool({"image", "reference"} & set(lost_columns(job, line)))

    def slides_without_images(self) -> list[SlideSpec]:
        """Return the slides that are to be packed and whose images are gone (``drop_images``).

        Raises:
            DataError: one of them is gone itself; the shards that are there are left as they are.
        """
        preparation = self.contents.preparation
        names = sorted(name for name in self.slides_to_write() if not preparation.store(name).has_images())
        for name in names:
            path = preparation.spec_of[name].path
            try:
                stamp_of(path)
            except OSError as error:
                raise DataError(
                    f"{path}: not there, and its patches are in the shards of {preparation.root} alone, which would "
                    "have to be made anew; put the slide back, or leave others out by exclude.txt"
                ) from error
        return [preparation.spec_of[name] for name in names]


def packing_of(contents: Contents) -> Packing:
    """Return what packing these slides would do.

    Raises:
        DataError: no magnification has enough samples, or the slides' work is damaged.
    """
    root, old = contents.root, read_plan(contents.root)
    changes = changes_of(old, contents) if old else Changes()
    plan = new_plan(old, contents, changes)
    encoder = one_encoder(contents)
    if is_standardised(contents):
        encoder["statistics"] = plan.statistics or train_statistics(contents)
    jobs, counts, dropped = make_jobs(contents, statistics=encoder["statistics"], batches=plan.batches)
    if not jobs:
        reasons = "; ".join(f"{label}: {reason}" for label, reason in dropped.items()) or "no slide could be read"
        raise DataError(f"{root}: no magnification has enough samples; {reasons}. See qc/index.html")
    shards = [[job.path for job in jobs if job.batch == number] for number in range(len(plan.batches))]
    plan = replace(plan, statistics=encoder["statistics"], shards=shards)
    kept = _kept(jobs, old, changes) if old and changes.batches and not is_all_anew(old, changes) else {}
    if changes.batches:
        jobs = [replace(job, folder=NEW) for job in jobs]
    return Packing(
        contents=contents,
        plan=plan,
        changes=changes,
        kept=kept,
        encoder=encoder,
        jobs=jobs,
        counts=counts,
        dropped=dropped,
    )


def _kept(jobs: list[ShardJob], old: ShardPlan, changes: Changes) -> dict[str, str]:
    """Return the old path of every shard whose batch has not changed, by the new one."""
    kept = {}
    for job in jobs:
        if job.batch < len(old.batches) and job.batch not in changes.batches:
            folder = job.path.rsplit("/", 1)[0]
            before = [path for path in (old.shards or [])[job.batch] if path.rsplit("/", 1)[0] == folder]
            if job.turn < len(before):
                kept[job.path] = before[job.turn]
    return kept


def pack(packing: Packing, states: list[SlideState], executor: Executor) -> Manifest:
    """Write the shards and the manifest; ``states`` are those of all slides of the table. The caller has shards locked.

    Raises:
        DataError: a slide's work is damaged.
        UserError: a full disk.
    """
    contents, root = packing.contents, packing.contents.root
    folder = root / (SHARDS if packing.in_place else NEW)
    old = Manifest.load(root) if (root / MANIFEST_NAME).is_file() else None
    if not packing.in_place:
        begin(root, {"pack": replace(packing.plan, inputs_sha256=None).to_dict()})
        place_kept(packing.jobs, packing.kept)
    packing.plan.save(folder)
    shards = dict(_write_shards(packing, executor))
    manifest = _manifest(packing, [shards[number] for number in range(len(packing.jobs))], states)
    stay = {shard.path: shard.path for shard in manifest.shards} if packing.in_place else packing.kept
    manifest = with_added_columns(manifest, old, stay)
    if words := what_is_to_be_added(manifest, old):
        print(f"note: {words}")
    finished = replace(packing.plan, inputs_sha256=inputs_hash(states, contents))
    if packing.in_place:
        sync_tree(folder, files=False)
        manifest.save(root)
        finished.save(folder)
        return manifest
    finished.save(folder)
    return exchange(root, manifest)


def _write_shards(packing: Packing, executor: Executor) -> Iterator[tuple[int, ShardInfo]]:
    with progress(total=len(packing.jobs), label="packing", unit="shard") as bar:
        for number, line in executor.map(write_shard, packing.jobs):
            if isinstance(line, Died):
                raise UserError(f"{packing.jobs[number].path}: {line.reason}; run the same command again")
            yield number, ShardInfo(**line)
            bar.update()


def _manifest(packing: Packing, shards: list[ShardInfo], states: list[SlideState]) -> Manifest:
    preparation, split, done = packing.contents.preparation, packing.contents.split, packing.contents.done
    settings = preparation.slide_settings
    columns: dict[str, dict[str, Any]] = {
        "image": {"format": settings.image_format},
        "grid": {"dim": packing.encoder["dim"]},
        "meta": {},
    }
    if any("reference" in shard.columns for shard in shards):
        columns["reference"] = {"format": "png", "fraction": settings.reference}
    slides = sorted([*states, *preparation.failed_lines()], key=lambda state: state.slide)
    return Manifest(
        name=preparation.pack_settings.name,
        ladder=settings.ladder,
        encoder=EncoderInfo(**packing.encoder),
        columns=columns,
        shards=shards,
        counts=packing.counts,
        patients=_patients(done, split),
        held_out=split.held_out,
        dropped=packing.dropped,
        slides=[_slide_line(state, split) for state in slides],
        glass={state.slide: state.glass for state in done},
        config=preparation.config,
        code_version=__version__,
        git_revision=git_state()["git_revision"],
    )


def _patients(done: list[DoneSlide], split: Split) -> dict[str, list[str]]:
    of_split = {name: sorted({s.patient for s in done if split.of_patient[s.patient] == name}) for name in SPLITS}
    train, test = SPLITS
    return of_split | ({test: of_split[train]} if split.held_out == AREA else {})


def _slide_line(state: SlideState, split: Split) -> dict[str, Any]:
    line: dict[str, Any] = {
        "slide": state.slide,
        "patient": state.patient,
        "status": state.status,
        "reason": state.reason,
    }
    if isinstance(state, DoneSlide):
        line |= {
            "split": AREA if split.held_out == AREA else split.of_patient[state.patient],
            "mpp_true": state.scale.mpp_true,
            "method": state.scale.method,
            "counts": state.counts,
            "unreadable_tiles": state.unreadable_tiles,
            "regions_skipped": state.regions_skipped,
        }
    return line
