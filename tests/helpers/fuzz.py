"""Cases of damage: one file of a prepared data set, or of what it is made of, is damaged, and a command is run.

A case is known by its kind, seed and number alone. It ends in ``done``, ``refused`` (an error that names the file) or
``failed`` (a slide that the report calls so); everything else is a fault: another error, another slide's data changed,
shards that verify.py does not find whole.
"""

import contextlib
import hashlib
import io
import json
import os
import resource
import shutil
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from data_prep.columns.grid import replace_grids
from data_prep.columns.latent import LatentMaker, add_latents
from data_prep.execution.executor import Died, Executor
from data_prep.execution.local import LocalExecutor
from data_prep.execution.serial import SerialExecutor
from data_prep.export.features import export_features
from data_prep.pack.exchange import finish_exchange
from data_prep.pipeline import run
from data_prep.preparation import Preparation
from data_prep.prepare import with_presets
from data_prep.repair import repair
from data_prep.report.estimate import print_estimate
from data_prep.report.verification import verify
from data_prep.slides.table import SlideSpec, excluded_in, find_slides
from tests.helpers import mutations
from tests.helpers.prepare import tiny_preparation
from tests.helpers.tiny_slides import SUFFIXES, tissue_pixels, tissue_settings, write_slide, write_svs
from tests.helpers.vendor_slides import write_mrxs, write_ndpi
from zoomldm.config import Option
from zoomldm.data.manifest import Manifest
from zoomldm.data.reader import SampleSource
from zoomldm.errors import UserError

MEMORY = 16 << 30
KINDS = ("slide", "table", "regions", "shard", "manifest", "state")
MEAN = Option("encoder", {"_target_": "tests.helpers.prepare.MeanColour", "name": "mean"}, allow=("tests",))
NOBODY = 65534


@dataclass(frozen=True)
class Case:
    """One case; ``folder`` holds what all start from (``base``) and where each runs (``case``)."""

    kind: str
    seed: int
    number: int
    folder: Path
    is_kept: bool = False

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.seed}-{self.number}"

    @property
    def at(self) -> Path:
        return self.folder / "case"

    def rng(self, *what: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, self.number, KINDS.index(self.kind), *what])


@dataclass(kw_only=True)
class Outcome:
    """How a case ended: ``done``, ``refused``, ``failed``, or with a ``fault``."""

    what: str
    target: str
    damage: str
    command: str
    said: str = ""
    fault: str = ""


# --- what all cases start from


def make_base(folder: Path) -> None:
    """Prepare three slides in two batches, with latents, and keep slides of every kind beside them."""
    at = folder / "case"
    shutil.rmtree(folder / "base", ignore_errors=True)
    shutil.rmtree(at, ignore_errors=True)
    for name in ("slides", "regions", "new", "more"):
        (at / name).mkdir(parents=True)
    for number, name in enumerate(("a", "b", "m")):
        write_slide(at / "slides" / f"{name}.tif", tissue_pixels(150, 120, number), downsamples=(1, 4), tile=64)
    _write_new(at / "new")
    square = [[[10, 10], [140, 10], [140, 110], [10, 110], [10, 10]]]
    (at / "regions" / "m.geojson").write_text(
        f'{{"type": "FeatureCollection", "features": [{{"type": "Feature", "geometry": '
        f'{{"type": "Polygon", "coordinates": {square}}}, "properties": {{"name": "tumour"}}}}]}}'
    )
    lines = ["path,slide,patient,split,mpp,tissue_preset,icc,exclude,grade"]
    lines += [f"slides/{name}.tif,{name},P{name},,0.5,,,,{number}" for number, name in enumerate("abm")]
    (at / "slides.csv").write_text("\n".join(lines[:3]) + "\n")
    with quiet():
        prepare(at)
        (at / "slides.csv").write_text("\n".join(lines) + "\n")
        latents(at, prepare(at))
    (at / "data" / "exclude.txt").write_text("# none\n")
    (at / "data" / "slides" / ".locks" / "m.attempts").write_text('{"attempts": 1, "stamp": [1, 2]}')
    shutil.copytree(at, folder / "base")


def _write_new(folder: Path) -> None:
    """Write a slide of each kind, all of some hundred pixels."""
    from tests.data_prep.slides.test_dicom import write_series

    pixels = tissue_pixels(160, 128, 7)
    write_slide(folder / "n.tif", pixels, tile=64)
    write_slide(folder / "jpeg.tif", pixels, tile=64, jpeg=True)
    write_svs(folder / "n.svs", tissue_pixels(320, 256, 8))
    write_svs(folder / "jp2.svs", tissue_pixels(320, 256, 9), compression=33005)
    write_ndpi(folder / "n.ndpi", tissue_pixels(512, 256, 10), tile_width=128)
    write_mrxs(folder / "n.mrxs", tissue_pixels(300, 260, 11), image_px=128, overlap_px=16)
    Image.fromarray(pixels).save(folder / "n.png")
    Image.fromarray(pixels).save(folder / "n.jpg")
    scale = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    tifffile.imwrite(folder / "flat.ome.tif", pixels, photometric="rgb", metadata={"axes": "YXS", **scale})
    write_series(folder / "dicom", size=(320, 256))


# --- commands


def preparation_at(at: Path, *more: SlideSpec, **values) -> Preparation:
    """Return the preparation of the table, with slides that it does not name."""
    table = str(at / "slides.csv")
    specs, faults = find_slides(table, SUFFIXES, 0.5)
    settings = tissue_settings(regions=str(at / "regions"), min_object_um2=100.0, max_hole_um2=100.0, smooth_um=2.0)
    told = {"num_rungs": 2, "min_tissue": 0.2, "tissue": settings, "test_fraction": 0.3, "mpp": 0.5} | values
    told |= {"reference": {"20x": 0.2, "10x": 0.0}}
    preparation = tiny_preparation(at, at / "data", specs=with_presets([*specs, *more], settings), **told)
    return replace(preparation, faults=faults, excluded=excluded_in(table))


def prepare(at: Path, *more: SlideSpec, executor: Executor | None = None, repack: bool = False) -> Manifest:
    return run(preparation_at(at, *more), executor or SerialExecutor(), repack=repack, max_failed=1.0)


def repacked(at: Path, *more: SlideSpec, executor: Executor | None = None) -> Manifest:
    return prepare(at, *more, executor=executor, repack=True)


def plan(at: Path, *more: SlideSpec, executor: Executor | None = None) -> None:
    print_estimate(preparation_at(at, *more), executor or SerialExecutor())


def checked(at: Path, *more: SlideSpec) -> None:
    finish_exchange(at / "data")
    for fault in verify(Manifest.load(at / "data")):
        print(fault)


def repaired(at: Path, *more: SlideSpec) -> None:
    """Repair, then prepare where that is what repair says; afterwards verify.py finds nothing that was not said."""
    manifest = Manifest.load(at / "data")
    said = repair(preparation_at(at), manifest)
    print("\n".join(said))
    left = [line for line in verify(Manifest.load(at / "data")) if _tar_of(line) not in "\n".join(said)]
    if left:
        raise AssertionError(f"left by repair, and not said: {left}")


def _tar_of(fault: str) -> str:
    """Return the tar, without its ending, that a line of verify.py is about."""
    return fault.split(":")[0].removesuffix(".index.npy").removesuffix(".tar")


def latents(at: Path, *more: SlideSpec) -> None:
    def encode(images: np.ndarray) -> np.ndarray:
        return images[:, ::4, ::4].transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1

    add_latents(Manifest.load(at / "data"), LatentMaker(encode=encode, sha256="abc", source="run", is_original=False))


def grids(at: Path, *more: SlideSpec) -> None:
    replace_grids(preparation_at(at, encoder=MEAN), SerialExecutor(), repack=True)


def exported(at: Path, *more: SlideSpec) -> None:
    export_features(preparation_at(at))


def read_all(at: Path, *more: SlideSpec) -> None:
    """Read every sample as training does."""
    source = SampleSource(at / "data", split="train", columns=("image", "grid", "latent", "meta"))
    source.check_files()
    for rung, count in enumerate(source.counts.tolist()):
        source.read(np.full(count, rung), np.arange(count))


COMMANDS: dict[str, tuple[Callable, ...]] = {
    "slide": (prepare, prepare, prepare, repacked, plan),
    "table": (prepare, prepare, repacked, plan),
    "regions": (repacked, repacked, prepare, plan),
    "shard": (prepare, repacked, checked, repaired, repaired, latents, grids, read_all),
    "manifest": (prepare, repacked, checked, repaired, latents, grids, exported, read_all),
    "state": (prepare, prepare, repacked, repaired, latents, grids, exported),
}
KEEPS = (prepare, plan, checked, exported, read_all)
"""Commands after which no finished shard may be another."""


# --- damage

STATES = ("data/slides/settings.json", "data/shards/plan.json", "data/shards/*/*/*.json", "data/qc/*")
STATES += ("data/slides/.locks/*.attempts",)


def target_of(case: Case, rng: np.random.Generator) -> Path:
    """Return the file that a case damages."""
    at = case.at
    if case.kind == "slide" and rng.random() < 0.15:
        return at / "slides" / "m.tif"
    places = {
        "slide": ["new/*.*", "new/n/*", "new/dicom/*"],
        "table": ["slides.csv"],
        "regions": ["regions/*.geojson"],
        "shard": ["data/shards/*/*/*.tar", "data/shards/*/*/*.npy"],
        "manifest": ["data/manifest.json"] * 4 + ["data/exclude.txt"],
        "state": [*("data/slides/m/*",) * 6, *STATES],
    }[case.kind]
    place = places[int(rng.integers(len(places)))]
    found = sorted(path for path in at.glob(place) if path.is_file())
    return found[int(rng.integers(len(found)))]


def damages_of(path: Path, others: list[Path]) -> list[Callable]:
    """Return what may be done to a file, what suits its kind the most often."""
    other = others[0].read_bytes()
    suited = {".json": mutations.JSON, ".geojson": mutations.JSON, ".csv": mutations.CSV}.get(path.suffix, ())
    heads = [mutations.with_head_of(other), mutations.as_other(other)]
    return [*mutations.BYTES, *suited, *suited, *heads, *mutations.PLACES]


def damage(case: Case) -> tuple[Path, str]:
    """Damage a file of the case; return it and, in a word, how."""
    if case.is_kept:
        told = json.loads((case.folder / "kept" / case.name / "outcome.json").read_text())
        return case.at / told["target"], told["damage"]
    rng = case.rng()
    path = target_of(case, rng)
    rivals = sorted(p for p in case.at.rglob("*") if p.is_file() and p != path)
    change = (options := damages_of(path, [rivals[int(rng.integers(len(rivals)))]]))[int(rng.integers(len(options)))]
    if change in mutations.PLACES:
        if change is mutations.denied and not mutations.can_deny(case.folder):
            change = mutations.as_folder
        change(path)
    else:
        path.write_bytes(change(rng, path.read_bytes()))
    return path, change.__name__


# --- one case


@contextlib.contextmanager
def quiet() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        yield stream


@contextlib.contextmanager
def rights_count(at: Path, is_denied: bool) -> Iterator[None]:
    """Be nobody in particular for a while, since rights mean nothing to the superuser."""
    if not is_denied or os.geteuid() != 0:
        yield
        return
    denied = [path for path in at.rglob("*") if path.is_file() and path.stat().st_mode & 0o777 == 0]
    mutations.open_to_all(at)
    for path in denied:
        path.chmod(0)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def run_case(case: Case, executor: Executor | None = None) -> Outcome:
    """Damage, command, judgement."""
    start = case.folder / "kept" / case.name / "start" if case.is_kept else case.folder / "base"
    mutations.restored(start, case.at)
    target, how = damage(case)
    options = COMMANDS[case.kind]
    command = options[int(case.rng(1).integers(len(options)))]
    more = _specs_of(target, case)
    where = str(target.relative_to(case.at))
    outcome = Outcome(what="done", target=where, damage=how, command=command.__name__)
    manifest = None
    before = facts_of(case.at, target)
    given = {"executor": executor} if executor and command in (prepare, repacked, plan) else {}
    with quiet() as stream, rights_count(case.at, how == "denied"):
        try:
            manifest = command(case.at, *more(), **given)
        except UserError as error:
            outcome.what, outcome.said = "refused", str(error)
        except Exception:
            outcome.what, outcome.fault = "error", traceback.format_exc()
    outcome.said = f"{stream.getvalue()}{outcome.said}"
    if not outcome.fault:
        try:
            with quiet():
                outcome.fault = judge(case, target, command, outcome, before, manifest)
        except Exception:
            outcome.fault = traceback.format_exc()
    return outcome


def _specs_of(target: Path, case: Case) -> Callable[[], list[SlideSpec]]:
    """Return what names the damaged slide, if it is one that the table does not name."""
    new = case.at / "new"
    if case.kind != "slide" or target.parent.name == "slides":
        return list
    path = {"n": new / "n.mrxs", "dicom": new / "dicom"}.get(target.parent.name, target)
    return lambda: find_slides(str(path), SUFFIXES, 0.5)[0]


def facts_of(at: Path, target: Path) -> dict[str, str]:
    """Return a hash of every file of slides' work and of shards but the damaged one."""
    paths = [p for p in (at / "data").rglob("*") if p.is_file() and p != target and "lock" not in str(p)]
    return {str(p.relative_to(at / "data")): _hash(p) for p in paths}


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- judgement


def judge(
    case: Case, target: Path, command: Callable, outcome: Outcome, before: dict[str, str], manifest: Manifest | None
) -> str:
    """Return what is wrong with how a case ended, "" where nothing is."""
    after = facts_of(case.at, target)
    said = outcome.said
    damaged = _slide_of(case, target)
    work = [n for n in before if n.startswith("slides/") and n.split("/")[1] != damaged and n.count("/") > 1]
    lost = [name for name in work if after.get(name) != before[name]]
    if lost and "read again" not in said and command is not grids:
        return f"another slide's work has changed: {lost}"
    tars = [n for n in before if n.startswith("shards/") and n.endswith(".tar")]
    lost = [name for name in tars if after.get(name) != before[name]]
    is_kept = command in KEEPS or (outcome.what == "refused" and command is not grids)  # which goes forward only
    if lost and is_kept and not (command is prepare and "made again" in said):
        return f"shards have changed: {lost}"
    if outcome.what == "refused" and not names_file(case, target, said):
        return f"the reason does not name {target.name}: {said}"
    if command in (prepare, repacked) and outcome.what == "done":
        return judge_prepared(case, target, outcome, manifest)
    return ""


def judge_prepared(case: Case, target: Path, outcome: Outcome, manifest: Manifest | None) -> str:
    """Return what is wrong with a preparation that says that it is done."""
    failed = [line for line in manifest.slides if line["status"] == "failed"]
    if failed:
        outcome.what = "failed"
    for line in failed:
        if not any(word in line["reason"] for word in (line["slide"], target.name, "slides.csv", f"{case.at}/slides")):
            return f"the reason does not name the file: {line}"
    name = str(target.relative_to(case.at / "data")) if target.is_relative_to(case.at / "data") else target.name
    own = name.removesuffix(".index.npy").removesuffix(".tar")
    own = own.rsplit(".", 1)[0] if own.startswith("shards/") else own
    faults = [fault for fault in verify(manifest) if own not in fault and ".latent.tar: not in" not in fault]
    if faults:
        return f"verify.py finds {faults}"
    return ""


def names_file(case: Case, target: Path, said: str) -> bool:
    """Say whether a reason leads to the damaged file: by its name, its slide's, its shard's or its data set's."""
    at = case.at
    names = {target.name, str(at / "slides.csv")}
    if target.is_relative_to(at / "data"):
        names |= {str(at / "data"), target.name.split(".")[0]}
    if case.kind in ("slide", "regions"):
        names |= {f"slide {target.stem}", target.parent.name}
    if case.kind == "table":
        names |= {"in the slide table", *(f"slide {name}" for name in "abm")}
    return any(name in said for name in names)


def _slide_of(case: Case, target: Path) -> str:
    if target.is_relative_to(case.at / "data" / "slides"):
        return target.relative_to(case.at / "data" / "slides").parts[0]
    return "m" if target.name in ("m.tif", "m.geojson") else "n"


# --- many cases


def run_cases(cases: list[Case], limit_s: float) -> Iterator[tuple[Case, Outcome]]:
    """Run cases in a process of their own, one after the other; a case that ends or outlasts it gets a fresh one."""
    for number, outcome in LocalExecutor(1, timeout_s=limit_s).map(run_alone, cases):
        case = cases[number]
        if isinstance(outcome, Died):
            outcome = _after_death(case, outcome, limit_s)  # nothing else runs until then
        yield case, outcome


def run_alone(case: Case) -> Outcome:
    """Run a case in a process that does nothing else: nothing waits for the disk or draws a progress bar.

    Where it goes wrong its input is kept.
    """
    os.environ["TQDM_DISABLE"] = "1"
    os.fsync = lambda descriptor: None
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    _warm(case.folder)
    outcome = run_case(case)
    if outcome.fault:
        keep(case, outcome)
    return outcome


@cache
def _warm(folder: Path) -> None:
    """Run every command once on what is whole, so that modules are imported while Python's own files can be read."""
    for command in (prepare, plan, checked, exported, read_all, repaired, latents, grids):
        mutations.restored(folder / "base", folder / "case")
        with quiet():
            command(folder / "case")


def _after_death(case: Case, died: Died, limit_s: float) -> Outcome:
    """Return how a case ends that kills its process: where that is a slide's decoder, workers die and the run goes on.

    Whatever else ends or outlasts a process is a fault.
    """
    if case.kind == "slide" and "took longer" not in died.reason:
        outcome = run_case(case, LocalExecutor(1, timeout_s=limit_s))
    else:
        outcome = Outcome(what="died", target="", damage="", command="", fault=died.reason)
    if outcome.fault:
        keep(case, outcome)
    return outcome


def keep(case: Case, outcome: Outcome) -> None:
    """Keep the input of a case that went wrong, so that ``CASE=its-name`` runs it again."""
    folder = case.folder / "kept" / case.name
    if case.is_kept:
        return
    shutil.rmtree(folder, ignore_errors=True)
    mutations.restored(case.folder / "base", case.at)
    target, how = damage(case)
    shutil.copytree(case.at, folder / "start", symlinks=True)
    told = replace(outcome, target=str(target.relative_to(case.at)), damage=how)
    (folder / "outcome.json").write_text(json.dumps(asdict(told), indent=2))


def case_named(name: str, folder: Path) -> Case:
    """Return the case of a name, on the input that was kept of it if there is one."""
    kind, seed, number = name.rsplit("-", 2)
    is_kept = (folder / "kept" / name / "outcome.json").is_file()
    return Case(kind, int(seed), int(number), folder, is_kept)
