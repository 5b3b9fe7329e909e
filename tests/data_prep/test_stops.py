"""Every point at which preparation may be cut off, one by one: the next run ends with an undisturbed run's bytes.

A point is before each rename, link, unlink, rmdir and fsync (``zoomldm.files.before_step``).
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from data_prep.columns.grid import replace_grids
from data_prep.columns.latent import LatentMaker, add_latents
from data_prep.columns.variants import add_variants
from data_prep.execution.serial import SerialExecutor
from data_prep.pack.exchange import finish_exchange
from data_prep.repair import repair
from data_prep.report.verification import verify
from data_prep.slides.table import find_slides
from data_prep.work.store import SlideStore
from tests.data_prep.columns.test_grid import MEAN
from tests.data_prep.columns.test_latent import encode
from tests.data_prep.columns.test_variants import encode as encode_turned
from tests.helpers.prepare import prepare_folder, tiny_preparation
from tests.helpers.stops import ForkExecutor, at_each_step, disturbed, kill_both, kill_parent, stop
from tests.helpers.tiny_slides import SUFFIXES, tissue_pixels, write_slide
from zoomldm.data.manifest import Manifest
from zoomldm.data.shards import column_path
from zoomldm.files import sha256_of


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return folders of slides: ``first`` has a and b, ``later`` c, ``other`` another a."""
    folder = tmp_path_factory.mktemp("slides")
    for where, name, seed in (("first", "a", 0), ("first", "b", 1), ("later", "c", 2), ("other", "a", 3)):
        (folder / where).mkdir(exist_ok=True)
        write_slide(folder / where / f"{name}.tif", tissue_pixels(140, 120, seed), downsamples=(1,))
    return folder


@dataclass(frozen=True)
class Scene:
    """What is there before, and the command that is cut off."""

    before: Callable[[Path, Path], object]
    command: Callable[..., object]
    is_whole_before: bool = True


def prepare(folders, root, *, where="first", executor=None, **values):
    values = {"num_rungs": 2, "split_mode": "paper", "max_failed": 0.0} | values
    return prepare_folder(folders / where, root, executor=executor, **values)


def latents(folders, root, *, sha="abc", shift=0.0, **options):
    def small(images):
        return encode(images[:, :8, :8]) + shift

    maker = LatentMaker(encode=small, sha256=sha, source=sha, is_original=False)
    return add_latents(Manifest.load(root), maker, repack=True)


def other_latents(folders, root, **options):
    return latents(folders, root, sha="def", shift=0.5)


def variants(folders, root, **options):
    return add_variants(Manifest.load(root), lambda images: encode_turned(images[:, :8, :8]), [20.0])


def grids(folders, root, executor=None):
    preparation = tiny_preparation(folders / "first", root, num_rungs=2, split_mode="paper", encoder=MEAN)
    return replace_grids(preparation, executor or SerialExecutor(), repack=True)


def damaged(folders, root, **values):
    manifest = prepare(folders, root, **values)
    tar = root / f"{manifest.shards[0].path}.image.tar"
    content = bytearray(tar.read_bytes())
    content[700] ^= 1
    tar.write_bytes(content)


def mended(folders, root, executor=None, **values):
    preparation = tiny_preparation(folders / "first", root, num_rungs=2, split_mode="paper")
    repair(preparation, Manifest.load(root))
    prepare(folders, root, executor=executor, **values)
    assert repair(preparation, Manifest.load(root)) == []


def both(*commands):
    def do(folders, root, **options):
        for command in commands:
            command(folders, root, **options)

    return do


def changed(folders, root, executor=None):
    """Slide a is another; b stays in its own batch, with its shards and latents."""
    specs = [find_slides(str(folders / where), SUFFIXES)[0][-1] for where in ("other", "first", "later")]
    return prepare(folders, root, executor=executor, specs=specs, repack=True)


def added(folders, root, executor=None):
    return prepare(folders, root, where="later", executor=executor)


def nothing(folders, root):
    root.mkdir()


SCENES = {
    "prepare": Scene(nothing, prepare),
    "add slides": Scene(both(prepare, latents), added),
    "split anew": Scene(prepare, lambda f, r, **o: prepare(f, r, split_mode="patients", repack=True, **o)),
    "read a slide again": Scene(both(prepare, added), changed),
    "drop images": Scene(prepare, lambda f, r, **o: prepare(f, r, drop_images=True, **o)),
    "latents": Scene(prepare, latents),
    "other latents": Scene(both(prepare, latents), other_latents),
    "variants": Scene(both(prepare, latents), variants),
    "grids": Scene(both(prepare, latents), grids),
    "repair": Scene(damaged, mended, is_whole_before=False),
    "repair without images": Scene(lambda f, r: damaged(f, r, drop_images=True), mended, is_whole_before=False),
}
IN_WORKERS = ("prepare", "add slides", "split anew", "read a slide again", "grids")


class Stage:
    """A scene's folder before its command, and what an undisturbed one leaves."""

    def __init__(self, folders: Path, tmp_path: Path, name: str) -> None:
        self.folders, self.scene = folders, SCENES[name]
        self.start, self.root = tmp_path / "start", tmp_path / "root"
        self.scene.before(folders, self.start)
        self.reset()
        self.command()
        self.wanted = self.facts()
        assert self.lost() == []
        assert [fault for fault in verify(Manifest.load(self.root)) if "not in the manifest" not in fault] == []

    def reset(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self.start, self.root)

    def command(self, **options) -> None:
        self.scene.command(self.folders, self.root, **options)

    def lost(self) -> list[str]:
        """Return the tars that are not what the manifest says."""
        manifest = Manifest.load(self.root)
        tars = {
            column_path(self.root / shard.path, column): facts["sha256"]
            for shard in manifest.shards
            for column, facts in shard.columns.items()
        }
        return [str(tar) for tar, sha256 in tars.items() if not tar.is_file() or sha256_of(tar) != sha256]

    def listing(self) -> frozenset:
        """Return what tells this folder from one in which something has been written, renamed or deleted."""
        found = ((str(path), path.lstat()) for path in self.root.rglob("*"))
        return frozenset((path, stat.st_ino, stat.st_size, stat.st_mtime_ns) for path, stat in found)

    def facts(self) -> dict:
        """Return what is in the folder, but for times and locks."""
        files = [str(p.relative_to(self.root)) for p in self.root.rglob("*") if p.is_file() and "lock" not in str(p)]
        states = {p.parent.name: SlideStore(self.root, p.parent.name).done() for p in self.root.rglob("state.json")}
        facts = {name: replace(state, elapsed_s=0, cpu_s=0, encode_s=0) for name, state in states.items()}
        rows = {name: SlideStore(self.root, name).rows_path.read_bytes() for name in states}
        manifest = replace(Manifest.load(self.root), root=None)
        shards = {name: sha256_of(self.root / name) for name in files if name.startswith("shards/")}
        return {"files": sorted(files), "shards": shards, "manifest": manifest, "states": facts, "rows": rows}

    def check(self, point: str) -> None:
        """Look at what a stopped command left, then run it again."""
        finish_exchange(self.root)
        had = {path.parent.name for path in self.start.glob("slides/*/state.json")}
        assert all(SlideStore(self.root, name).done() for name in had), point
        if had and self.scene.is_whole_before:
            assert self.lost() == [], point
        self.command()
        found = self.facts()
        for name, wanted in self.wanted.items():
            assert found[name] == wanted, (point, name)


@pytest.mark.parametrize("name", SCENES)
def test_stopped_before_any_step(folders, tmp_path, name):
    """What lies there before each step is what a process leaves that ends there."""
    stage = Stage(folders, tmp_path, name)
    steps: list[str] = []
    left: dict[frozenset, str] = {}

    def keep(step: str) -> None:
        steps.append(step)
        if left.setdefault(stage.listing(), step) is step:  # before a flush and after it are the same
            shutil.copytree(stage.root, tmp_path / f"left-{len(left)}")

    stage.reset()
    with at_each_step(keep):
        stage.command()
    assert left
    print(f"{name}: {len(steps)} steps, {len(left)} unlike the one before")
    for number, step in enumerate(left.values(), 1):
        shutil.rmtree(stage.root)
        os.rename(tmp_path / f"left-{number}", stage.root)
        stage.check(f"{number} of {len(left)}: {step}")


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENES)
def test_a_process_that_ends_at_any_step(folders, tmp_path, name):
    stage = Stage(folders, tmp_path, name)
    for number in range(1, steps_of(stage, stage.command) + 1):
        stage.reset()
        disturbed(stage.command, number, stop)
        stage.check(f"step {number}")


def steps_of(stage, command, **where):
    stage.reset()
    return disturbed(command, 0, stop, **where)


@pytest.mark.parametrize("end", [stop, kill_parent, kill_both])
@pytest.mark.parametrize(
    ("name", "parts"),
    [("prepare", 4), *(pytest.param(name, None, marks=pytest.mark.slow) for name in IN_WORKERS)],
)
def test_a_worker_its_parent_or_both_end_at_any_step_of_the_worker(folders, tmp_path, name, parts, end):
    """A parent that ends leaves a worker that goes on, beside the run that is started next."""
    stage = Stage(folders, tmp_path, name)

    def command():
        stage.command(executor=ForkExecutor())

    steps = steps_of(stage, command, workers=True)
    assert steps
    for number in range(1, steps + 1, steps // parts if parts else 1):
        stage.reset()
        disturbed(command, number, end, workers=True)
        stage.check(f"step {number} of {steps}")
