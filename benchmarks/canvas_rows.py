"""What benchmarks/canvas.py measures: what slide.py draws, what is real, and what the autoencoder leaves of that."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import openslide
import torch
from einops import rearrange
from omegaconf import DictConfig
from PIL import Image

from benchmarks.canvas_figures import Area, Root
from benchmarks.slides import SIDE_PX, drawn, painted
from zoomldm.canvas.plan import Block, Level
from zoomldm.canvas.settings import is_coarse
from zoomldm.canvas.store import CanvasStore
from zoomldm.commands import slide
from zoomldm.commands.requests import hardware_of, packed_model, stored_config
from zoomldm.commands.slide_source import source_of
from zoomldm.composing import compose_jobs
from zoomldm.data.batch import Batch
from zoomldm.data.manifest import Manifest
from zoomldm.ladder import Rung
from zoomldm.sampling.compute import Compute
from zoomldm.sampling.conditions import ShardPatches
from zoomldm.sampling.generator import PatchGenerator, images_of, reconstruct, sample_number
from zoomldm.stages.trained import HowToSample, sampling_of

ROOTS = ("root=0.15625",)
UPPER = ("target=5", "overview=1.25", "region=[256,256,256,256]")
DEEP = ("target=20", "region=[1536,1536,256,256]")
"""Whole down to 1.25x and 2 x 2 patches of that down to 5x; and in them one patch of 2.5x down to 20x."""
SMALL, NUM, REFERENCE = 24, 128, 512
"""Roots of which the first levels alone are drawn; patches of a row and magnification, and to compare with."""
PLACES = ("root=1.25", "overview=5", "region=[256,256,256,256]")
WAYS = {
    "real place at 1.25x, below drawn": (),
    "and real tokens at all levels": ("mask=all",),
    "and without the correction": ("mask=all", "agreement.final=0"),
}
PARTS = {"upper": UPPER, "deep": DEEP}
CANVAS, REAL, BOUND, SINGLE = "slide", "real slides", "autoencoder", "generated"
TokensOf = Callable[[Sequence[Rung]], list[np.ndarray]]


class Rows:
    """Make the rows: of each root, place or patient the areas of every magnification.

    Args:
        work: where everything is kept; manifest: of the data set with real patches.

    Attributes:
        round_trips: row -> magnification -> of each root standardised tokens of the pixels and those that they should
            have, (2, b, n, d).
    """

    def __init__(self, work: Path, manifest: Manifest, num_roots: int) -> None:
        self.work, self.patches_of, self.ladder = work, ShardPatches(manifest), manifest.ladder
        self.num_roots, self.slides = num_roots, painted(work / "slides", num_roots)
        self.round_trips = defaultdict[str, dict](lambda: defaultdict(list))

    @cached_property
    def generator(self) -> PatchGenerator:
        """What draws single patches, as slide.py draws those of its fine levels."""
        return self._generator("sampling")

    @cached_property
    def coarse_generator(self) -> PatchGenerator:
        """What draws single patches as slide.py draws those of its coarse levels."""
        return self._generator("coarse")

    @cached_property
    def _asked(self) -> DictConfig:
        """What slide.py is asked by default."""
        return compose_jobs("slide", ["out=any.ome.tiff", "model=reference"])[0]

    def _generator(self, key: str) -> PatchGenerator:
        cfg = self._asked
        trained = packed_model(cfg).load("", wants_edm=True)
        compute = Compute.of(hardware_of(cfg, stored_config(cfg)), torch.device("cpu"))
        how = HowToSample(steps=cfg[key].steps, guidance_scale=cfg[key].guidance_scale, compute=compute)
        return PatchGenerator(
            trained.model.module,
            trained.autoencoder.module,
            edm=trained.edm.module,
            sampling=how.over(trained.sampling, trained.manifest.ladder),
            edm_sampling=sampling_of(trained.edm.config, trained.manifest.ladder, ()),
            compute=compute,
        )

    def read(self, split: str, rung: Rung, skip: int) -> Iterator[Batch]:
        """Read real patches of a split, after those that are skipped."""
        num = min(REFERENCE if not skip and split == "train" else NUM, self.patches_of.count(split, rung.magnification))
        return self.patches_of.batches(
            split=split,
            magnification=rung.magnification,
            num=num,
            skip=skip,
            seed=0,
            columns=("image", "meta"),
            batch_size=128,
        )

    def canvas(self) -> Sequence[Root]:
        upper, deep = (drawn(self.work / part, *ROOTS, *words, f"n={self.num_roots}") for part, words in PARTS.items())
        above, small = drawn(self.work / "small", "root=0.15625", "target=0.3125", f"n={SMALL}", "seed=1000")
        levels, stores = deep
        for number, store in enumerate(stores):
            self._round_trip(CANVAS, number, store.pixels(levels[-1], levels[-1].part), tokens_of(levels, store))
        both = zip(upper[1], stores)
        found = [areas_of(levels, of_deep) | areas_of(upper[0], of_upper) for of_upper, of_deep in both]
        return found + [areas_of(above, store) for store in small]

    def places(self, way: str) -> Sequence[Root]:
        found = []
        for number, place in enumerate(self._places()):
            name = self.work / f"place{number}-{list(WAYS).index(way)}"
            levels, (store,) = drawn(name, *place, *PLACES, *WAYS[way], f"seed={number}")
            self._round_trip(way, number, store.pixels(levels[-1], levels[-1].part), tokens_of(levels, store))
            areas = areas_of(levels, store)
            found.append(areas if way != next(iter(WAYS)) else {k: v for k, v in areas.items() if k != "1.25x"})
        return found

    def _places(self) -> Iterator[list[str]]:
        """Yield a place of each painted slide that has tissue all over."""
        generator = np.random.default_rng(0)
        for path in self.slides:
            tissue = 0.0
            while tissue < 0.8:
                x, y = generator.integers(300, SIDE_PX - 300, 2).tolist()
                words = ["source=slide", f"source.slide={path}", f"source.x={x}", f"source.y={y}"]
                (cfg,) = compose_jobs("slide", ["out=any.ome.tiff", "model=reference", *words])
                source, rung = source_of(cfg), self.ladder.rung_of(1.25)
                tissue = 0.0 if source.why_not(rung) else source.area([rung], 1, 1)[0].conditions.meta[0].tissue
            yield words

    def single(self) -> Sequence[Root]:
        """Single patches, in as many groups as there are roots."""
        roots = [defaultdict(list) for _ in range(self.num_roots)]
        for rung in self.ladder.rungs:
            path = self.work / "single" / f"{rung.label}.npy"
            if not path.is_file():
                path.parent.mkdir(exist_ok=True)
                parts = np.array_split(np.arange(NUM), NUM // 64)
                numbers = [[sample_number(rung, place) for place in part] for part in parts]
                generator = (
                    self.coarse_generator if is_coarse(rung.magnification, self._asked.coarse.to) else self.generator
                )
                np.save(path, np.concatenate([generator.from_edm(rung.index, some) for some in numbers]))
            for place, patch in enumerate(np.load(path)):
                roots[place % self.num_roots][rung.label].append(Area(patch))
        return roots

    def patches(self, split: str, skip: int) -> Sequence[Root]:
        """Real patches of the data set, by patient."""
        roots: dict[str, dict[str, list[Area]]] = defaultdict(lambda: defaultdict(list))
        for rung in self.ladder.rungs:
            for batch in self.read(split, rung, skip):
                for patch, meta in zip(images_of(batch), batch.meta, strict=True):
                    roots[meta.patient][rung.label].append(Area(patch))
        return list(roots.values())

    @cached_property
    def real(self) -> Sequence[Root]:
        """Painted slides, the same parts of them."""
        words = [["out=any.ome.tiff", "model=reference", *ROOTS, *more] for more in PARTS.values()]
        upper, deep = (slide.drawn_levels(compose_jobs("slide", some)[0], None) for some in words)
        levels, found = [*upper, *deep[len(upper) :]], []
        for path in self.slides:
            with openslide.OpenSlide(path) as opened:
                pixels = np.asarray(opened.read_region((0, 0), 0, (SIDE_PX, SIDE_PX)))[..., :3]
            of_level = [pixels]
            for _ in levels[1:]:
                of_level.insert(0, np.asarray(Image.fromarray(of_level[0]).reduce(2)))
            found.append(
                {
                    level.rung.label: [
                        Area(
                            whole[level.part.slices(level.patch_px)],
                            above[level.part.slices(level.patch_px // 2)] if above is not None else None,
                            level.is_whole,
                        )
                    ]
                    for level, whole, above in zip(levels, of_level, [None, *of_level])
                }
            )
        return found

    def reconstructed(self) -> Sequence[Root]:
        """What the autoencoder leaves of them; its tokens beside those of the slides themselves."""
        found = []
        for number, root in enumerate(self.real):
            real = partial(self._embedded, root["20x"][0].pixels)
            found.append(
                {
                    label: [Area(self._reconstruct(area.pixels), area.above, area.is_whole) for area in areas]
                    for label, areas in root.items()
                }
            )
            self._round_trip(BOUND, number, found[-1]["20x"][0].pixels, real)
        return found

    def _reconstruct(self, pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            image = torch.from_numpy(np.ascontiguousarray(rearrange(pixels, "h w c -> 1 c h w")))
            return reconstruct(self.generator.autoencoder, image)[0]

    def _round_trip(self, row: str, number: int, pixels: np.ndarray, wanted: TokensOf) -> None:
        """Embed a square of 20x, and compare the tokens of all patches that it covers with those they should have.

        Args:
            wanted: rungs -> tokens (b, n, d) of each.
        """
        rungs = [rung for rung in self.ladder.rungs if rung.region_px <= len(pixels)][::-1]
        path = self.work / "round-trips" / f"{row} {number}.npz"
        if not path.is_file():
            path.parent.mkdir(exist_ok=True)
            both = zip(rungs, self._embedded(pixels, rungs), wanted(rungs))
            np.savez(path, **{rung.label: np.stack([found, own]) for rung, found, own in both})
        for label, pair in np.load(path).items():
            self.round_trips[row][label].append(self.generator.edm.standardise(torch.from_numpy(pair)).numpy())

    def _embedded(self, pixels: np.ndarray, rungs: Sequence[Rung]) -> list[np.ndarray]:
        """Return the tokens (b, n, d) of all patches of a square of 20x, by magnification."""
        path = self.work / "square.png"
        Image.fromarray(pixels).save(path)
        words = ["source=image", f"source.path={path}", "source.magnification=20"]
        (cfg,) = compose_jobs("slide", ["out=any.ome.tiff", "model=reference", *words])
        levels = source_of(cfg).area(rungs, 1, 1)
        return [self.generator.tokens(level.conditions).float().cpu().numpy() for level in levels]


def areas_of(levels: Sequence[Level], store: CanvasStore) -> Root:
    """Return what was drawn of a root."""
    found = {}
    for above, level in zip([None, *levels], levels):
        bounds = [bound * level.patch_px // 2 for bound in astuple(level.part)]
        pixels = None if above is None else store.window(above, *bounds)
        found[level.rung.label] = [Area(store.pixels(level, level.part), pixels, level.is_whole)]
    return found


def tokens_of(levels: Sequence[Level], store: CanvasStore) -> TokensOf:
    """Return what gives the tokens that were drawn of all patches over the finest part."""
    finest = levels[-1]

    def of(rungs: Sequence[Rung]) -> list[np.ndarray]:
        found = []
        for level in [one for one in levels if one.rung in rungs]:
            ends = [bound * finest.patch_px // level.rung.region_px for bound in astuple(finest.part)]
            found.append(rearrange(store.tokens(level, Block(*ends)), "h w n d -> (h w) n d"))
        return found

    return of
