"""One synthetic slide: its levels drawn one after the other, and the file that grows with them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any, Literal

from lightning_fabric import Fabric

from zoomldm.canvas.given import Given
from zoomldm.canvas.grow import Grower, Tree
from zoomldm.canvas.invert import Inverter, TokenFinder
from zoomldm.canvas.plan import Level
from zoomldm.canvas.pyramid import SETTINGS, Pyramid, settings_in
from zoomldm.canvas.region import RegionSampler
from zoomldm.canvas.settings import Glass, Inversion, LevelSettings, is_coarse
from zoomldm.canvas.store import CanvasStore
from zoomldm.errors import ConfigError, DataError
from zoomldm.files import held, remove, remove_tree, rename, write_json
from zoomldm.model.autoencoder import Autoencoder
from zoomldm.model.zooming import ZoomingEDM
from zoomldm.model.zoomldm import ZoomLDM
from zoomldm.sampling.compute import Compute
from zoomldm.sampling.settings import Sampling
from zoomldm.stored import read_json, stored_as

IDENTITY, DRAWN = "slide.json", "drawn.json"
VERSION = 2
"""Of the way slides are drawn; raised when the same settings give other pixels."""


@dataclass(frozen=True, kw_only=True)
class SlideJob:
    """Draw a slide into ``path``, with what is drawn so far in a folder beside it.

    Attributes:
        levels: coarsest first.
        weights: hashes of the models, by part; model_name: of the run or packed model.
        fine, coarse: how patches are drawn; coarse: of levels up to coarse_to, of none where that is None.
        root_sampling, zoom_sampling: of tokens of roots, and of children.
        overlap: see `RegionSampler`.
        fabric: whose processes share the blocks.
        given: the place that it is drawn of; None: out of nothing, and in processes that others tell.
        inversion: how tokens are found that nothing embeds.
        mark: write the word SYNTHETIC into the corner of every level.
        keep: the folder beside the slide stays.
    """

    path: Path
    levels: Sequence[Level]
    model: ZoomLDM
    autoencoder: Autoencoder
    edm: ZoomingEDM
    weights: Mapping[str, str]
    model_name: str
    fine: LevelSettings
    coarse: LevelSettings
    coarse_to: float | None
    root_sampling: Sampling
    zoom_sampling: Sampling
    overlap: float
    glass: Glass
    given: Given | None
    inversion: Inversion
    compute: Compute
    fabric: Fabric
    seed: int
    block: int
    halo: int
    batch_size: int
    compression: Literal["deflate", "jpeg"]
    mark: bool
    keep: bool

    @property
    def work(self) -> Path:
        """The folder of what is drawn so far."""
        return self.path.with_name(f"{self.path.name.partition('.')[0]}.work")

    def identity(self) -> dict[str, Any]:
        """Return everything that the pixels depend on, as JSON values; the batch size changes only rounding."""
        return {
            "version": VERSION,
            "weights": dict(self.weights),
            "seed": self.seed,
            "roots": [self.levels[0].rows, self.levels[0].columns],
            "root": self.levels[0].rung.magnification,
            "target": self.levels[-1].rung.magnification,
            "patches": {f"{one.rung.magnification:g}": repr(self.settings_of(one)) for one in self.levels},
            "root tokens": repr(self.root_sampling),
            "tokens": repr(self.zoom_sampling),
            "overlap": self.overlap,
            "glass": asdict(self.glass),
            "block": self.block,
            "halo": self.halo,
            "precision": self.compute.precision,
            "parts": [astuple(one.part) for one in self.levels if not one.is_whole] or None,
            **({} if self.given is None else {"place": self.given.identity() | {"inversion": asdict(self.inversion)}}),
        }

    def settings_of(self, level: Level) -> LevelSettings:
        """Return how the patches of a level are drawn."""
        return self.coarse if is_coarse(level.rung.magnification, self.coarse_to) else self.fine

    def run(self) -> None:
        """Draw what is not drawn yet, and write the file after each level.

        Raises:
            UserError: another run draws this slide; what is drawn so far was drawn otherwise; a full disk.
        """
        is_first = self.fabric.global_rank == 0
        with self._alone() if is_first else nullcontext():
            if is_first and self.is_done():
                self._require_same(settings_in(self.path), self.path)
                print(f"{self.path}: done already; delete it to draw it again")
            self.fabric.barrier()
            if self.is_done():
                return
            if is_first:
                self._claim()
            self.fabric.barrier()
            self._grow(is_first)
            self.fabric.barrier()
            if is_first:
                self._finish()

    def is_done(self) -> bool:
        """Say whether the slide is there and nothing of it is still to be drawn."""
        return self.path.is_file() and not (self.work / IDENTITY).is_file()

    def _grow(self, is_first: bool) -> None:
        store = CanvasStore(self.work, block=self.block)
        grower = self._grower(store)
        if self.given is not None:
            self._tell(store, self.given)
        self.fabric.barrier()
        parent: Level | None = None
        for number, level in enumerate(self.levels):
            grower.draw(level, parent)
            if is_first:
                self._pyramid().write(self.path, store, self.levels[: number + 1])
            self.fabric.barrier()
            parent = level

    def _tell(self, store: CanvasStore, given: Given) -> None:
        """Write down what is known of the levels, once."""
        levels = self.levels[: len(given.areas)]
        if all(store.given(level) is not None for level in levels):
            return
        options = {"settings": self.inversion, "seed": self.seed, "compute": self.compute}
        finder = TokenFinder(autoencoder=self.autoencoder, inverter=Inverter(self.model, self.edm, **options))
        for level, known in zip(levels, given.levels(levels, finder.of_conditions, finder.of_pixels)):
            store.write_given(level, known)

    def _grower(self, store: CanvasStore) -> Grower:
        device = self.compute.device
        self.compute.prepare(self.edm)
        return Grower(
            store=store,
            tree=Tree(
                edm=self.edm,
                sampling=self.zoom_sampling,
                root_sampling=self.root_sampling,
                seed=self.seed,
                device=device,
            ),
            sampler=RegionSampler(
                self.model,
                self.autoencoder,
                overlap=self.overlap,
                seed=self.seed,
                batch_size=self.batch_size,
                compute=self.compute,
            ),
            settings=self.settings_of,
            glass=self.glass,
            halo=self.halo,
            rank=self.fabric.global_rank,
            num_processes=self.fabric.world_size,
            wait=self.fabric.barrier,
        )

    def _pyramid(self) -> Pyramid:
        facts = {"synthetic": "true", "generator": "ZoomLDM", "model": self.model_name, "seed": str(self.seed)}
        hashes = {f"sha256 of {part}": sha256 for part, sha256 in self.weights.items()}
        settings = {SETTINGS: json.dumps(self.identity(), sort_keys=True)}
        name = f"synthetic slide of {self.model_name}, seed {self.seed}"
        facts |= hashes | settings | (self.given.facts if self.given else {})
        return Pyramid(compression=self.compression, mark=self.mark, name=name, facts=facts)

    def _claim(self) -> None:
        """Say in the folder what is drawn there, or find that it is the same as before."""
        path = self.work / IDENTITY
        if not path.is_file():
            remove_tree(self.work)  # of a slide that is done, or of nobody knows what
            write_json(path, self.identity())
            return
        try:
            before = stored_as(dict[str, Any], read_json(path))
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: damaged ({error}); delete {self.work} to begin anew") from error
        self._require_same(before, self.work)

    def _require_same(self, before: Mapping[str, Any] | None, place: Path) -> None:
        """Refuse to take what is there for this slide.

        Args:
            before: the identity that it was drawn, or begun, with; None where it is not by us.
        """
        if before is None:
            raise ConfigError(f"{place}: is there already and was not drawn by slide.py; give another out=")
        own = json.loads(json.dumps(self.identity()))
        changed = sorted(key for key in own if before.get(key) != own[key])
        if changed:
            raise ConfigError(
                f"{place}: holds a slide that was begun with another {', '.join(changed)}; give the same settings "
                "to go on with it, another out=, or delete it to begin anew"
            )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the slide's lock, which raises UserError where another process has it."""
        busy = f"{self.path}: another process is drawing it; wait for it, or give another out="
        lock = self.work.with_name(f".{self.work.name}.lock")
        with held(lock, busy):
            try:
                yield
            finally:
                if self.is_done():
                    remove(lock)  # whoever had opened it already finds the slide done, and draws nothing

    def _finish(self) -> None:
        rename(self.work / IDENTITY, self.work / DRAWN)
        if not self.keep:
            remove_tree(self.work)
        level = self.levels[-1]
        print(f"{self.path}: {level.width_px:,} x {level.height_px:,} px, {self.path.stat().st_size / 1e6:.1f} MB")
