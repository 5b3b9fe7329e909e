"""Per-slide work becomes shards, with a manifest at the end.

A shard that was finished under the same plan (shard_plan.py) is kept: a killed pack goes on where it stopped, and later
slides only add shards. The manifest is written last, and taken away before any shard is, so that it never speaks of
shards that are not there.
"""

import shutil
from dataclasses import dataclass, replace
from typing import Any

from data_prep.execution.executor import Died, Executor
from data_prep.pack.jobs import Counts, ShardJob, make_jobs
from data_prep.pack.shard_plan import ShardPlan, inputs_hash, plan_of, read_plan
from data_prep.pack.splits import AREA, Split
from data_prep.pack.statistics import is_standardised, one_encoder, train_statistics
from data_prep.pack.write import write_shard
from data_prep.preparation import Contents
from data_prep.slides.files import stamp_of
from data_prep.slides.table import SlideSpec
from data_prep.work.state import DoneSlide, SlideState
from zoomldm import __version__
from zoomldm.data.manifest import MANIFEST_NAME, EncoderInfo, Manifest, ShardInfo
from zoomldm.data.schema import SPLITS
from zoomldm.errors import DataError, UserError
from zoomldm.files import progress
from zoomldm.runs.provenance import git_state


@dataclass(frozen=True, kw_only=True)
class Packing:
    """What is to be packed: nothing is written or taken away before `pack`.

    Attributes:
        is_new: the shards that are there must go.
        encoder: what the manifest says of it.
    """

    contents: Contents
    plan: ShardPlan
    is_new: bool
    encoder: dict[str, Any]
    jobs: list[ShardJob]
    counts: Counts
    dropped: dict[str, str]

    def slides_to_write(self) -> set[str]:
        """Return the slides whose images go into shards that are not there yet."""
        jobs = self.jobs if self.is_new else [job for job in self.jobs if not job.record_path.is_file()]
        return {slide.name for job in jobs for slide in job.slides}

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
                    f"{path}: not there, and its patches are in the shards of {preparation.root} alone, which a change "
                    "in the slide table would make anew; put the slide back, or leave others out by exclude.txt"
                ) from error
        return [preparation.spec_of[name] for name in names]


def packing_of(contents: Contents) -> Packing:
    """Return what packing these slides would do.

    Raises:
        DataError: no magnification has enough samples, or the slides' work is damaged.
    """
    plan, is_new = plan_of(read_plan(contents.root), contents)
    encoder = one_encoder(contents)
    if is_standardised(contents):
        encoder["statistics"] = plan.statistics or train_statistics(contents)
    plan = replace(plan, statistics=encoder["statistics"], inputs_sha256=None)
    jobs, counts, dropped = make_jobs(contents, statistics=plan.statistics, batches=plan.batches)
    if not jobs:
        reasons = "; ".join(f"{label}: {reason}" for label, reason in dropped.items()) or "no slide could be read"
        raise DataError(f"{contents.root}: no magnification has enough samples; {reasons}. See qc/index.html")
    return Packing(
        contents=contents, plan=plan, is_new=is_new, encoder=encoder, jobs=jobs, counts=counts, dropped=dropped
    )


def pack(packing: Packing, states: list[SlideState], executor: Executor) -> Manifest:
    """Write the shards and the manifest; ``states`` are those of all slides of the table.

    Raises:
        DataError: a slide's work is damaged.
        UserError: a full disk.
    """
    contents, root = packing.contents, packing.contents.root
    if packing.is_new:
        if (root / MANIFEST_NAME).is_file():
            print(f"{root}: all shards are made anew: what decides them has changed since they were made")
        (root / MANIFEST_NAME).unlink(missing_ok=True)
        shutil.rmtree(root / "shards", ignore_errors=True)
    packing.plan.save(root)
    shards: dict[int, ShardInfo] = {}
    with progress(total=len(packing.jobs), label="packing", unit="shard") as bar:
        for number, line in executor.map(write_shard, packing.jobs):
            if isinstance(line, Died):
                raise UserError(f"{packing.jobs[number].path}: {line.reason}; run the same command again")
            shards[number] = ShardInfo(**line)
            bar.update()
    manifest = _manifest(packing, [shards[number] for number in range(len(packing.jobs))], states)
    manifest.save(root)
    replace(packing.plan, inputs_sha256=inputs_hash(states, contents)).save(root)
    return manifest


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
