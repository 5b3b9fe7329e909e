"""What the shards of a data set are made of, and in which order the slides came.

Slides that come later make shards of their own: those that are there stay as they are, and so do their latents. A
change in what they are made of (a slide gone or read anew, another patient, label, split or setting) makes all anew.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from data_prep.pack.splits import Split
from data_prep.settings import PrepareSettings
from data_prep.slides.table import SlideSpec
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
        statistics: with which `stats` embeddings are standardised: those of the first batch.
        inputs_sha256: hash of everything the finished set was made of, None until it is finished.
    """

    batches: list[list[str]]
    facts: list[str]
    of_patient: dict[str, str]
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


def known_splits(root: Path) -> dict[str, str]:
    """Return the split of every patient that has one already."""
    plan = read_plan(root)
    return plan.of_patient if plan else {}


def planned(
    old: ShardPlan | None,
    done: list[dict[str, Any]],
    specs: dict[str, SlideSpec],
    split: Split,
    settings: PrepareSettings,
) -> tuple[ShardPlan, bool]:
    """Return the plan for slides that are done, and whether the shards of the old one must go."""
    names = {state["slide"] for state in done}
    if old is not None and names.issuperset(name for batch in old.batches for name in batch):
        facts = [batch_facts(batch, done, specs, split, settings) for batch in old.batches]
        if facts == old.facts:
            new = sorted(names.difference(*old.batches))
            if not new:
                return replace(old, of_patient=split.of_patient), False
            batches = [*old.batches, new]
            facts = [*facts, batch_facts(new, done, specs, split, settings)]
            return replace(old, batches=batches, facts=facts, of_patient=split.of_patient), False
    batch = sorted(names)
    facts = [batch_facts(batch, done, specs, split, settings)]
    return ShardPlan(batches=[batch], facts=facts, of_patient=split.of_patient), True


def batch_facts(
    batch: list[str],
    done: list[dict[str, Any]],
    specs: dict[str, SlideSpec],
    split: Split,
    settings: PrepareSettings,
) -> str:
    """Return a hash of what decides the bytes of a batch's shards: settings, code version, slides and their splits."""
    lines = [
        [s["slide"], s["patient"], split.of_patient[s["patient"]], s["file"]["quick_hash"], specs[s["slide"]].labels]
        for s in sorted(done, key=lambda state: state["slide"])
        if s["slide"] in batch
    ]
    return _sha256([__version__, settings.to_dict(), split.held_out, lines])


def inputs_hash(
    states: list[dict[str, Any]], specs: dict[str, SlideSpec], split: Split, settings: PrepareSettings
) -> str:
    """Return a hash of everything the data set is made of, the slides that failed included."""
    lines = [
        [s["slide"], s["patient"], s["status"], s.get("file", {}).get("quick_hash"), specs[s["slide"]].labels]
        for s in states
        if s["slide"] in specs
    ]
    return _sha256([__version__, settings.to_dict(), split.held_out, split.of_patient, lines])


def _sha256(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
