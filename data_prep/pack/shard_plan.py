"""What the shards of a data set are made of, and in which order the slides came.

Slides that come later make shards of their own: those that are there stay as they are, and so do their latents. A
change in what they are made of (a slide gone or read anew, another patient, label, split or setting) makes all anew.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from data_prep.preparation import Contents, Preparation
from data_prep.work.folder import read_settings
from data_prep.work.state import DoneSlide, SlideState
from zoomldm import __version__
from zoomldm.files import write_json

PLAN_NAME = "plan.json"


@dataclass(frozen=True, kw_only=True)
class ShardPlan:
    """The slides of a data set's shards.

    Attributes:
        batches: slides that came together, by name; each batch has shards of its own.
        facts: for each batch a hash of all that decides its shards' bytes.
        of_patient: the split of each patient, which later patients do not change.
        drawn_by: the settings that drew the split; None in the plans of older versions.
        statistics: with which `stats` embeddings are standardised: those of the first batch.
        inputs_sha256: hash of everything the finished set was made of, None until it is finished.
    """

    batches: list[list[str]]
    facts: list[str]
    of_patient: dict[str, str]
    drawn_by: dict[str, Any] | None = None
    statistics: dict[str, Any] | None = None
    inputs_sha256: str | None = None

    def save(self, root: Path) -> None:
        write_json(root / "shards" / PLAN_NAME, asdict(self))


def read_plan(root: Path) -> ShardPlan | None:
    """Return the plan of the shards that are there, None without one."""
    try:
        return ShardPlan(**json.loads((root / "shards" / PLAN_NAME).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def known_splits(preparation: Preparation) -> dict[str, str]:
    """Return the split of every patient that has one already; none where it was drawn by other settings."""
    plan = read_plan(preparation.root)
    if plan is None:
        return {}
    now = drawn_by(preparation)
    before = plan.drawn_by or {name: read_settings(preparation.root).get(name) for name in now}
    return plan.of_patient if before == now else {}


def drawn_by(preparation: Preparation) -> dict[str, Any]:
    """Return the settings that decide who is held out."""
    told = preparation.pack_settings.to_dict()
    return {name: told[name] for name in ("split_mode", "test_fraction", "seed")}


def plan_of(old: ShardPlan | None, contents: Contents) -> tuple[ShardPlan, bool]:
    """Return the plan of what is to be packed, and whether the shards of the old one must go."""
    names = {state.slide for state in contents.done}
    now = {"of_patient": contents.split.of_patient, "drawn_by": drawn_by(contents.preparation)}
    if old is not None and names.issuperset(name for batch in old.batches for name in batch):
        facts = [batch_facts(batch, contents) for batch in old.batches]
        if facts == old.facts:
            added = sorted(names.difference(*old.batches))
            batches = [*old.batches, added] if added else old.batches
            facts += [batch_facts(added, contents)] if added else []
            return replace(old, batches=batches, facts=facts, **now), False
    batch = sorted(names)
    return ShardPlan(batches=[batch], facts=[batch_facts(batch, contents)], **now), True


def batch_facts(batch: list[str], contents: Contents) -> str:
    """Return a hash of what decides the bytes of a batch's shards: settings, code version, slides and their splits."""
    preparation, split = contents.preparation, contents.split
    lines = [
        [
            state.slide,
            state.patient,
            split.of_patient[state.patient],
            state.file.quick_hash,
            preparation.spec_of[state.slide].labels,
            *([state.told] if state.told else []),
        ]
        for state in sorted(contents.done, key=lambda state: state.slide)
        if state.slide in batch
    ]
    return _sha256([__version__, preparation.settings_dict(), split.held_out, lines])


def inputs_hash(states: list[SlideState], contents: Contents) -> str:
    """Return a hash of everything the data set is made of, the slides that failed included."""
    preparation, split = contents.preparation, contents.split
    lines = [
        [
            state.slide,
            state.patient,
            state.status,
            state.file.quick_hash if isinstance(state, DoneSlide) else None,
            preparation.spec_of[state.slide].labels,
            *([state.told] if isinstance(state, DoneSlide) and state.told else []),
        ]
        for state in states
    ]
    return _sha256([__version__, preparation.settings_dict(), split.held_out, split.of_patient, lines])


def _sha256(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
