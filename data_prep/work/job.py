"""One slide to prepare, and what is said of it when that fails."""

from dataclasses import dataclass, replace
from pathlib import Path

from data_prep.settings import SlideSettings
from data_prep.slides.table import SlideSpec
from data_prep.work.state import FailedSlide, SlideState
from data_prep.work.store import SlideStore
from zoomldm.config import Option
from zoomldm.errors import DataError


@dataclass(frozen=True, kw_only=True)
class SlideJob:
    """One slide to prepare into ``root``; ``by_area``: the slide serves both splits."""

    spec: SlideSpec
    settings: SlideSettings
    root: Path
    by_area: bool

    @classmethod
    def of(cls, spec: SlideSpec, settings: SlideSettings, root: Path, *, by_area: bool) -> "SlideJob":
        """Return the job of a slide, with what its line of the table says over the settings of all."""
        return cls(spec=spec, settings=settings_for(spec, settings), root=root, by_area=by_area)

    @property
    def store(self) -> SlideStore:
        return SlideStore(self.root, self.spec.name)

    def is_whole(self) -> bool:
        """Say whether nothing is left to do, with the images there."""
        is_done = self.store.is_done(self.spec, by_area=self.by_area, regions=self.settings.tissue.regions)
        return is_done and self.store.has_images()


def settings_for(spec: SlideSpec, settings: SlideSettings) -> SlideSettings:
    """Return the settings of all slides with what a slide's line of the table says instead."""
    if spec.tissue is not None:
        own = Option("tissue", spec.tissue, settings.tissue.segmenter.allow)
        settings = replace(settings, tissue=replace(settings.tissue, segmenter=own))
    return settings if spec.icc is None else replace(settings, icc=spec.icc)


def reason_of(spec: SlideSpec, error: Exception) -> str:
    """Return why a slide failed, with its file: a ``DataError`` names it, what a reader raises does not."""
    if isinstance(error, DataError):
        return str(error)
    return f"{spec.path}: {error or type(error).__name__}; check the file or copy it again"


def failed(spec: SlideSpec, reason: str, *, by_storage: bool = False) -> FailedSlide:
    return FailedSlide(slide=spec.name, patient=spec.patient, path=str(spec.path), reason=reason, by_storage=by_storage)


def after_death(job: SlideJob, reason: str) -> SlideState:
    """Return the state of a slide whose process has died: failed, unless its work had been whole by then."""
    with job.store.lock():
        if job.is_whole():
            return job.store.state()
        state = failed(job.spec, f"{job.spec.path}: {reason}")
        job.store.note_failure(state)
        return state
