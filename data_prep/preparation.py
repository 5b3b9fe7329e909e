"""What one preparation is about: where it works, of which slides, told what."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from data_prep.pack.splits import Split, split_patients
from data_prep.settings import PackSettings, SlideSettings
from data_prep.slides.table import SlideFault, SlideSpec
from data_prep.work.state import DoneSlide, FailedSlide, SlideState
from data_prep.work.store import SlideStore


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """Everything that decides what the shards hold. Two with equal settings and slides make equal bytes.

    Attributes:
        root: the data set's folder.
        specs: the slides, in the order of the slide table.
        faults: lines of the table that cannot become slides.
        excluded: slides that the table itself leaves out.
        frozen: frozen sections that are left out (``slide.frozen``).
        config: what the manifest keeps of the configuration.
        patients_known: a slide without a patient of its own is one patient's for sure (slides that were drawn).
        waiting: rows of another encoder that wait beside the slides' are taken for theirs.
    """

    root: Path
    specs: list[SlideSpec]
    slide_settings: SlideSettings
    pack_settings: PackSettings
    faults: list[SlideFault] = field(default_factory=list)
    excluded: list[str] = field(default_factory=list)
    frozen: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    patients_known: bool = False
    waiting: bool = False

    @cached_property
    def spec_of(self) -> dict[str, SlideSpec]:
        """Return the slides by name."""
        return {spec.name: spec for spec in self.specs}

    def store(self, slide: str) -> SlideStore:
        return SlideStore(self.root, slide, waiting=self.waiting)

    def states(self) -> list[SlideState]:
        """Return the states of the slides that have one, with the patients that the slide table gives now."""
        found = ((spec, self.store(spec.name).state()) for spec in self.specs)
        return [replace(state, patient=spec.patient) for spec, state in found if state is not None]

    def failed_lines(self) -> list[FailedSlide]:
        """Return the faults of the slide table as slides that failed."""
        return [FailedSlide(slide=f.name, patient="", path=f.path, reason=f.reason) for f in self.faults]

    def split(self, specs: Iterable[SlideSpec], known: dict[str, str]) -> Split:
        """Split the patients of some slides as the settings say; ``known`` ones stay where they are."""
        told = self.pack_settings
        return split_patients(
            specs, mode=told.split_mode, test_fraction=told.test_fraction, seed=told.seed, known=known
        )

    def settings_dict(self) -> dict[str, Any]:
        """Return all settings in one dictionary, for hashes of what shards are made of."""
        return self.slide_settings.to_dict() | self.pack_settings.to_dict()


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What shards are made of: the slides that are done, by name, and who of their patients is held out."""

    preparation: Preparation
    done: list[DoneSlide]
    split: Split

    @property
    def root(self) -> Path:
        return self.preparation.root
