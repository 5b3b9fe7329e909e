"""What the page answers, as plain functions: nothing here knows Gradio."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

from zoomldm.app.answers import Answer, Offer, Row
from zoomldm.app.requests import Limits, Request, check_request
from zoomldm.config import Option
from zoomldm.errors import ConfigError, UserError, near_match
from zoomldm.ladder import Ladder, Rung, label
from zoomldm.sampling.arrangement import Arrangement, OneEach, Variations
from zoomldm.sampling.compute import Compute
from zoomldm.sampling.making import Making, facts_of
from zoomldm.sampling.outputs.base import Output
from zoomldm.sampling.outputs.png import png_path
from zoomldm.sampling.settings import Sampling
from zoomldm.sampling.sources.base import Overview, Source
from zoomldm.stages.trained import HowToSample, TrainedModels

OVERVIEW_PX = 640
MARK = ".zoomldm-app"
"""A file that says whose a folder is."""
OPEN_SLIDES = 4
"""Kept open, with their masks."""


class Session:
    """Answers requests one after the other, by models that stay loaded.

    Args:
        folder: of the page alone; what an earlier page left in it is removed.

    Raises:
        ConfigError: something else lies in the folder.
    """

    def __init__(
        self,
        models: TrainedModels,
        *,
        offer: Offer,
        output: Output,
        limits: Limits,
        compute: Compute,
        folder: Path,
    ) -> None:
        self.models, self.offer, self.output, self.limits = models, offer, output, limits
        self.compute, self.folder = compute, folder
        self._lock, self._num_answers = Lock(), 0
        self._opened = lru_cache(maxsize=OPEN_SLIDES)(self._open)
        _own(folder)

    @property
    def ladder(self) -> Ladder:
        """The magnifications."""
        return self.models.manifest.ladder

    @property
    def default(self) -> Sampling:
        """How the run's configuration says that it is sampled."""
        return self.models.sampling

    @property
    def default_solver(self) -> str:
        """The name of the run's solver."""
        return Option("solver", self.models.config["solver"]).name

    def sample(self, request: Request) -> Answer:
        """Make patches of one magnification.

        Raises:
            UserError: cannot be made; the message says why.
        """
        with self._answering(request) as folder:
            source, rung = self._source(request), self.ladder.rung_of(request.magnification)
            if reason := source.why_not(rung):
                raise ConfigError(reason)
            first = self._number(request, source, rung) * request.n
            arrangement = OneEach() if source.count(rung) is None else Variations(request.n)
            return self._answer(
                self._making(request, source, arrangement), rung, folder, range(first, first + request.n)
            )

    def all_magnifications(self, request: Request) -> Row:
        """Make a patch of every magnification: of one place where the source has places.

        Raises:
            UserError: none can be made; the message says why.
        """
        with self._answering(request) as folder:
            source = self._source(request)
            has_place = source.count(self.ladder[0]) is not None
            by_coarseness = reversed(self.ladder.rungs)
            coarsest = next((rung for rung in by_coarseness if not source.why_not(rung)), self.ladder[0])
            number = self._number(request, source, coarsest)
            source = source.scene(coarsest) if has_place else source
            reasons = {rung: source.why_not(rung) for rung in self.ladder.rungs}
            if all(reasons.values()):
                raise ConfigError(str(reasons[self.ladder[0]]))
            making, places = self._making(request, source, OneEach()), range(number, number + 1)
            return Row(
                answers=[self._answer(making, rung, folder, places) for rung, no in reasons.items() if not no],
                left_out={rung.label: _plainly(no, request) for rung, no in reasons.items() if no},
            )

    def overview(self, slide: str) -> Overview:
        """Return a slide made small.

        Raises:
            UserError: there is no such slide, or it cannot be read.
        """
        with self._lock:
            return self._opened(slide).overview(OVERVIEW_PX)

    @contextmanager
    def _answering(self, request: Request) -> Iterator[Path]:
        """Check a request and give a folder for its files; messages name an upload by its name alone."""
        check_request(request, self.limits, ladder=self.ladder, sources=self.offer.sources, solvers=self.offer.solvers)
        with self._lock:
            self._num_answers += 1
            folder = self.folder / f"{self._num_answers:06d}"
            shutil.rmtree(self.folder / f"{self._num_answers - self.limits.kept:06d}", ignore_errors=True)
            try:
                yield folder
            except UserError as error:
                raise type(error)(_plainly(str(error), request)) from error

    def _source(self, request: Request) -> Source:
        """Make the source of a request.

        Raises:
            UserError: it has no conditions, or cannot be read.
        """
        if request.source == "image":
            return self._made("image", seed=request.seed, path=str(request.picture), mpp=request.mpp)
        if request.source == "slide":
            return self._opened(str(request.slide)).at(request.x_px0 or 0, request.y_px0 or 0)
        return self._made(request.source, seed=request.seed)

    def _open(self, slide: str) -> Source:
        if slide not in self.offer.slides:
            known = [*self.offer.slides]
            raise ConfigError(f"slide={slide}:{near_match(slide, known)} expected one of {', '.join(known) or 'none'}")
        return self._made("slide", seed=0, slide=self.offer.slides[slide], x=0, y=0)

    def _made(self, name: str, *, seed: int, **arguments: Any) -> Source:
        option = self.offer.sources[name]
        return replace(option, section={**option.section, **arguments}).make(Source, seed=seed)

    def _number(self, request: Request, source: Source, rung: Rung) -> int:
        """Return which condition of a source is meant; of a chosen place there is one.

        Raises:
            ConfigError: the source has not so many.
        """
        count = source.count(rung)
        if source.is_chosen:
            return 0
        if count is not None and request.sample >= count:
            raise ConfigError(f"sample={request.sample}: {rung.label} has {count} {source.origin}, numbered from 0")
        return request.sample

    def _making(self, request: Request, source: Source, arrangement: Arrangement) -> Making:
        how = HowToSample(
            solver=self.offer.solvers[request.solver],
            steps=request.steps,
            guidance_scale=request.guidance_scale,
            seed=request.seed,
            compute=self.compute,
        )
        models = self.models if source.needs_edm else replace(self.models, edm=None)
        generator = models.generator(how)
        facts = facts_of(generator, source, model=models.run.name, weights=models.weights)
        return Making(generator=generator, source=source, arrangement=arrangement, facts=facts)

    def _answer(self, making: Making, rung: Rung, folder: Path, places: range) -> Answer:
        made = making.make(rung, places, making.read(rung, places))
        self.output.keep(folder, made)
        references = making.references(rung, places)
        return Answer(
            rung=rung,
            images=made.images,
            reference=None if references is None else references[0],
            files=[_named(png_path(folder, place), facts) for place, facts in zip(places, made.facts)],
            facts=made.facts[0],
        )


def _named(path: Path, facts: Mapping[str, Any]) -> Path:
    """Give a PNG the name that a user sees in downloads."""
    name = f"{facts['source']}-{label(facts['magnification'])}-seed{facts['seed']}-{facts['number']}.png"
    return path.rename(path.with_name(name))


def _own(folder: Path) -> None:
    """Make an empty folder that is the page's.

    Raises:
        ConfigError: it holds what no page has put there.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).is_file():
        raise ConfigError(f"folder={folder}: holds other things, and the page would remove them; name an empty folder")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / MARK).touch()


def _plainly(message: str, request: Request) -> str:
    """Return a message in the page's words: an upload by its name, keys of the command line as on the page."""
    if request.picture is not None:
        message = message.replace(str(request.picture), request.picture.name)
    for word, here in ((", or source.min_tissue=", ""), ("source.mpp=", "scale="), ("source.", "")):
        message = message.replace(word, here)
    return message
