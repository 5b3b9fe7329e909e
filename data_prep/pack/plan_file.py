"""The plan of a data set's shards as it is kept beside them (``shards/plan.json``)."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from data_prep.pack.jobs import SHARDS
from data_prep.slides.table import SlideSpec
from zoomldm.errors import DataError
from zoomldm.files import write_json
from zoomldm.stored import read_json, stored_as

PLAN_NAME = "plan.json"


@dataclass(frozen=True, kw_only=True)
class ShardPlan:
    """The slides of a data set's shards.

    Attributes:
        batches: slides that came together, by name; each batch has shards of its own; a batch may be empty.
        of_patient: the split of each patient, which later patients do not change.
        drawn_by: the settings that drew the split; None in the plans of older versions.
        made_of: all that decides the shards' bytes (``made_of``); None in the plans of older versions, which have
            ``facts`` instead, for each batch a hash.
        table: the lines of the slide table by slide, so that slides stay that a later command does not name.
        shards: the paths of each batch's shards; None in the plans of older versions.
        statistics: with which `stats` embeddings are standardised: those of the first batch.
        inputs_sha256: hash of everything the finished set was made of, None until it is finished.
    """

    batches: list[list[str]]
    of_patient: dict[str, str]
    facts: list[str] | None = None
    drawn_by: dict[str, Any] | None = None
    made_of: dict[str, Any] | None = None
    table: dict[str, SlideSpec] = field(default_factory=dict)
    shards: list[list[str]] | None = None
    statistics: dict[str, Any] | None = None
    inputs_sha256: str | None = None

    @property
    def slides(self) -> list[str]:
        return sorted(name for batch in self.batches for name in batch)

    def to_dict(self) -> dict[str, Any]:
        return json.loads(json.dumps(asdict(self), default=str))

    def save(self, folder: Path) -> None:
        write_json(folder / PLAN_NAME, self.to_dict())


def read_plan(root: Path) -> ShardPlan | None:
    """Return the plan of the shards that are there, None without shards.

    Raises:
        DataError: there are shards, and it cannot be read.
    """
    shards = root / SHARDS
    try:
        return stored_as(ShardPlan, read_json(shards / PLAN_NAME))
    except (OSError, ValueError) as error:
        if isinstance(error, FileNotFoundError) and next(shards.glob("*/*/*.tar"), None) is None:
            return None
        raise DataError(
            f"{shards / PLAN_NAME}: cannot be read ({error}); it says which slides are in which shards. Put it back "
            f"from a copy, or delete {shards} to have all made again from the slides' work, and then the latents"
        ) from error
