"""Preparation from the slide table to the manifest: which slides are to do, by whom, and what is said about them."""

import json
import subprocess
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_prep.execution.local import Died, Executor, make_executor
from data_prep.pack.pack import Packing, pack, plan_packing
from data_prep.pack.shard_plan import batch_facts, inputs_hash, known_splits, read_plan
from data_prep.pack.splits import NOTHING, Split, split_patients
from data_prep.report.qc import write_page
from data_prep.settings import PrepareSettings, differences, from_config
from data_prep.slides.files import stamp_of
from data_prep.slides.readers.base import suffixes_of
from data_prep.slides.table import SlideFault, SlideSpec, find_slides, is_frozen
from data_prep.work.prepare_slide import (
    DONE,
    FAILED,
    IMAGES_NAME,
    STATE_NAME,
    SlideJob,
    failed_state,
    is_done,
    prepare_slide,
    read_state,
    slide_folder,
)
from zoomldm.data.manifest import MANIFEST_NAME, Manifest
from zoomldm.data.schema import slide_key
from zoomldm.errors import ConfigError, DataError, UserError
from zoomldm.files import progress, write_json

SETTINGS_NAME = "settings.json"


def prepare(cfg: Any) -> Manifest | None:
    """Translate the configuration (conf/prepare.yaml) and run; returns the manifest, None for a part or a plan.

    Raises:
        UserError: whatever the user can mend.
    """
    from omegaconf import OmegaConf

    settings = from_config(cfg)
    if cfg.get("split"):
        settings = replace(settings, split_mode=cfg.split)
    slides = cfg.get("slides") or cfg.data.get("slides")
    if slides is None:
        slides = _demo_slides(cfg)
    specs, faults = find_slides(str(slides), suffixes_of(settings.readers), settings.mpp)
    root = Path(cfg.data.root)
    if cfg.get("add") not in (None, "grid"):
        raise ConfigError(f"add={cfg.add}: expected grid (latents are added by data_prep/latents.py)")
    executor = make_executor(
        cfg.get("executor", "local"), cfg.get("workers"), cfg.get("timeout_s"), cfg.get("encoders")
    )
    if cfg.get("plan"):
        from data_prep.report.estimate import print_plan

        print_plan(specs, faults, settings, executor)
        return None
    if cfg.get("add"):
        return replace_grids(root, specs=specs, settings=settings, executor=executor)
    config = OmegaConf.to_container(cfg.data, resolve=True) if OmegaConf.is_config(cfg.data) else dict(cfg.data)
    return run(
        root,
        specs=specs,
        faults=faults,
        settings=settings,
        config={name: value for name, value in config.items() if name not in ("root", "slides")},
        executor=executor,
        part=parse_part(cfg.get("part")),
        drop_images=bool(cfg.get("drop_images")),
    )


def _demo_slides(cfg: Any) -> Path:
    """Return the folder of the demo's own slides, made where they are missing.

    Raises:
        ConfigError: another data set without slides.
    """
    maker = cfg.data.get("demo_slides")
    if not maker:
        raise ConfigError(f"data={cfg.data.name}: which slides? give a folder, a glob or a CSV: slides=/path/to/slides")
    from data_prep.demo.slides import make_demo_slides

    folder = Path(maker["folder"])
    make_demo_slides(folder, **{name: value for name, value in maker.items() if name != "folder"})
    return folder


def parse_part(part: str | None) -> tuple[int, int] | None:
    """Read ``3/16`` as (3, 16): the third of sixteen shares.

    Raises:
        ConfigError: anything else.
    """
    if part is None:
        return None
    try:
        number, total = (int(word) for word in str(part).split("/"))
    except ValueError:
        number, total = 0, 0
    if not 1 <= number <= total:
        raise ConfigError(f"part={part}: expected a share such as 3/16, from 1/16 to 16/16")
    return number, total


def run(
    root: Path,
    *,
    specs: list[SlideSpec],
    faults: list[SlideFault],
    settings: PrepareSettings,
    config: dict[str, Any],
    executor: Executor,
    part: tuple[int, int] | None = None,
    drop_images: bool = False,
) -> Manifest | None:
    """Prepare the slides that are not done, then pack them; with ``part`` only that share, without packing.

    drop_images: delete the slides' images once they are in shards, half of all bytes; a slide whose shards are to be
        written anew is then read anew.

    Raises:
        ConfigError: the folder holds the work of another configuration.
        DataError: nothing came of it.
    """
    began = time.perf_counter()
    root.mkdir(parents=True, exist_ok=True)
    check_settings(root, settings)
    known = known_splits(root)
    split = split_slides(specs, settings, known)
    for spec in specs:
        if is_frozen(spec.name):
            print(f"warning: {spec.name}: a frozen section by its barcode; diagnostic slides (-DX) are usually meant")
    share = [spec for i, spec in enumerate(specs) if part is None or i % part[1] == part[0] - 1]
    todo = [spec for spec in share if not is_done(root, spec)]
    if len(todo) < len(share):
        print(f"{len(share) - len(todo)} of {len(share)} slides are done already")
    for fault in faults:
        print(f"failed: {fault.name}: {fault.reason}")
    prepare_slides(root, todo, settings, split, executor)
    if part is not None:
        print(f"part {part[0]}/{part[1]} is done; when all are, run the same command without part= to pack the shards")
        return None
    manifest = pack_slides(root, specs, faults, settings, known, config, executor, began)
    if drop_images:
        for spec in specs:
            (slide_folder(root, spec.name) / IMAGES_NAME).unlink(missing_ok=True)
    return manifest


def pack_slides(
    root: Path,
    specs: list[SlideSpec],
    faults: list[SlideFault],
    settings: PrepareSettings,
    known: dict[str, str],
    config: dict[str, Any],
    executor: Executor,
    began: float,
) -> Manifest:
    """Pack the slides that are done, if that has not been done; read those again whose dropped images are needed.

    known: splits that patients have already; began: when the command did, by ``time.perf_counter``.

    Raises:
        DataError: nothing came of it, or a slide that would be needed again is gone.
    """
    by_name = {spec.name: spec for spec in specs}
    fault_states = [
        {"status": FAILED, "reason": f.reason, "slide": f.name, "patient": "", "path": f.path} for f in faults
    ]
    while True:
        states = patients_of([state for spec in specs if (state := read_state(root, spec.name))], by_name)
        done = [state for state in states if state["status"] == DONE]
        try:
            split = split_of_done(specs, done, settings, known)
            manifest = finished(root, states, by_name, split, settings)
            if manifest is not None:
                print(f"{root}: nothing to do, the shards are complete (data.name=… makes a second set)")
                return manifest
            packing = plan_packing(root, done, by_name, split, settings)
        except DataError:
            title = f"{settings.name}: nothing packed"
            write_page(root, states + fault_states, {"train": {}, "test": {}}, {}, [], title)
            raise
        again = without_images(root, packing, by_name)
        if not again:
            break
        print(f"{len(again)} slides are read again: their shards are to be written, and their images were dropped")
        prepare_slides(root, again, settings, split, executor)
    manifest = pack(
        root,
        packing,
        states=states,
        faults=fault_states,
        specs=by_name,
        split=split,
        settings=settings,
        config=config,
        executor=executor,
        git_revision=git_revision(),
    )
    report(root, manifest, states + fault_states, split, time.perf_counter() - began)
    return manifest


def without_images(root: Path, packing: Packing, specs: dict[str, SlideSpec]) -> list[SlideSpec]:
    """Return the slides that are to be packed and whose images are gone (``drop_images``).

    Raises:
        DataError: one of them is gone itself; the shards that are there are left as they are.
    """
    names = sorted(
        name for name in packing.slides_to_write(root) if not (slide_folder(root, name) / IMAGES_NAME).is_file()
    )
    for name in names:
        try:
            stamp_of(specs[name].path)
        except OSError as error:
            raise DataError(
                f"{specs[name].path}: not there, and its patches are in the shards of {root} alone, which a change in "
                "the slide table would make anew; put the slide back, or leave others out by exclude.txt"
            ) from error
    return [specs[name] for name in names]


def replace_grids(root: Path, *, specs: list[SlideSpec], settings: PrepareSettings, executor: Executor) -> Manifest:
    """Give finished shards the grids of another encoder, and the folder its settings and plan.

    Raises:
        ConfigError: the folder was made with other settings than these.
        DataError: there are no shards, or slides are gone.
    """
    from data_prep.columns.grid import add_grid

    check_settings(root, settings, but="encoder")
    states = [state for spec in specs if (state := read_state(root, spec.name))]
    done = [state for state in states if state["status"] == DONE]
    split = split_of_done(specs, done, settings, known_splits(root))
    manifest = add_grid(root, specs, settings, split, executor)
    write_json(root / "slides" / SETTINGS_NAME, json.loads(json.dumps(settings.to_dict(), default=str)))
    by_name, plan = {spec.name: spec for spec in specs}, read_plan(root)
    replace(
        plan,
        facts=[batch_facts(batch, patients_of(done, by_name), by_name, split, settings) for batch in plan.batches],
        statistics=manifest.encoder.statistics,
        inputs_sha256=inputs_hash(patients_of(states, by_name), by_name, split, settings),
    ).save(root)
    return manifest


def patients_of(states: list[dict[str, Any]], specs: dict[str, SlideSpec]) -> list[dict[str, Any]]:
    """Return the states with the patients that the slide table gives now."""
    return [state | {"patient": specs[state["slide"]].patient} for state in states]


def check_settings(root: Path, settings: PrepareSettings, *, but: str | None = None) -> None:
    """Refuse a folder with the work of other settings, in keys other than ``but``; note these in a new one.

    Raises:
        ConfigError: names the differing keys.
    """
    path = root / "slides" / SETTINGS_NAME
    new = json.loads(json.dumps(settings.to_dict(), default=str))
    if path.is_file():
        found = [d for d in differences(json.loads(path.read_bytes()), new) if not (but and d.startswith(but))]
        if found:
            raise ConfigError(
                f"{root}: holds the work of another configuration ({'; '.join(found)}); choose another data.name or "
                "data.root, or delete that folder"
            )
        return
    if (root / MANIFEST_NAME).exists():
        raise ConfigError(f"{root}: holds shards, but not the work they were made from; choose another data.root")
    write_json(path, new)


def prepare_slides(
    root: Path, specs: list[SlideSpec], settings: PrepareSettings, split: Split, executor: Executor
) -> None:
    """Prepare slides one a job, the largest files first, and print a line for each that failed."""
    specs = sorted(specs, key=lambda spec: -_size_of(spec))
    jobs = [SlideJob(spec=spec, settings=settings, root=root, by_area=split.held_out == "area") for spec in specs]
    if not jobs:
        return
    with progress(total=len(jobs), label="slides", unit="slide") as bar:
        for position, state in executor.map(prepare_slide, jobs, encoder=settings.encoder):
            if isinstance(state, Died):
                state = failed_state(specs[position], f"{specs[position].path}: {state.reason}")
                write_json(slide_folder(root, specs[position].name) / STATE_NAME, state)
            if state["status"] == FAILED:
                bar.write(f"failed: {state['slide']}: {state['reason']}")
            elif not any(state["counts"].values()):
                bar.write(f"nothing: {state['slide']}: {state['reason']}")
            bar.update()


def _size_of(spec: SlideSpec) -> int:
    try:
        return stamp_of(spec.path)[0]
    except (OSError, DataError):
        return 0


def split_slides(specs: list[SlideSpec], settings: PrepareSettings, known: dict[str, str]) -> Split:
    """Split the slides' patients as the settings say; ``known`` ones stay where they are."""
    return split_patients(
        specs, mode=settings.split_mode, test_fraction=settings.test_fraction, seed=settings.seed, known=known
    )


def split_of_done(
    specs: list[SlideSpec], done: list[dict[str, Any]], settings: PrepareSettings, known: dict[str, str]
) -> Split:
    """Split the patients whose slides are done; where a single one is left, by area."""
    names = {state["slide"] for state in done}
    kept = [spec for spec in specs if spec.name in names]
    if not kept:
        raise DataError("no slide could be prepared; the reasons are above")
    return split_slides(kept, settings, known)


def finished(
    root: Path, states: list[dict[str, Any]], specs: dict[str, SlideSpec], split: Split, settings: PrepareSettings
) -> Manifest | None:
    """Return the manifest if it was made of exactly these slides and settings."""
    plan = read_plan(root)
    if plan is None or not (root / MANIFEST_NAME).is_file():
        return None
    if plan.inputs_sha256 != inputs_hash(states, specs, split, settings):
        return None
    return Manifest.load(root)


def report(root: Path, manifest: Manifest, states: list[dict[str, Any]], split: Split, elapsed_s: float) -> None:
    """Print what was made, and write the QC page."""
    for state in states:
        if state["status"] == DONE:
            state["split"] = "both" if split.held_out == "area" else split.of_patient[state["patient"]]
    notes = []
    if split.held_out == "area":
        notes.append("one patient only: the held-out part is a separate area of each slide, no region lies in both")
    if split.held_out == NOTHING:
        notes.append("split=paper: every patient is in train, nothing is held out")
    for note in notes:
        print(f"note: {note}")
    page = write_page(root, states, manifest.counts, manifest.dropped, notes, f"{manifest.name}: quality control")
    print(f"{'magnification':>14}  {'train':>10}  {'test':>10}")
    for label in manifest.ladder.labels:
        if label in manifest.dropped:
            print(f"{label:>14}  dropped: {manifest.dropped[label]}")
        else:
            counts = [manifest.counts[name].get(label, 0) for name in ("train", "test")]
            print(f"{label:>14}  {counts[0]:>10,}  {counts[1]:>10,}")
    kinds = Counter(
        "failed" if s["status"] == FAILED else "ok" if any(s["counts"].values()) else "empty" for s in states
    )
    total = sum(c["bytes"] for shard in manifest.shards for c in shard.columns.values())
    print(
        f"{kinds['ok']} slides with samples, {kinds['empty']} without, {kinds['failed']} failed; "
        f"{len(manifest.shards)} shards, {total / 1e6:,.0f} MB in {root}; look at {page}; {elapsed_s:.1f} s"
    )


def git_revision() -> str | None:
    """Return the commit of this checkout, None outside of git."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


__all__ = ["UserError", "prepare", "run", "slide_key"]
