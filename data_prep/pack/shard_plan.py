"""What the shards of a data set are made of, in which order the slides came, and what has changed since.

Slides that come later make shards of their own: those that are there stay as they are, and so do their latents. What
changes in a batch (a slide gone or read anew, another patient, label or split) makes the shards of that batch anew,
what decides all shards (settings, version) makes all anew; neither is done unasked.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from data_prep.magnitudes import differences
from data_prep.pack.plan_file import ShardPlan, read_plan
from data_prep.preparation import Contents, Preparation
from data_prep.slides.table import SlideSpec
from data_prep.work.folder import read_settings
from data_prep.work.state import DoneSlide, SlideState

PACKING_VERSION = 1
"""Of the shards' bytes; raised by hand where the same work gives other shards."""
LEGACY_VERSION = "0.1.0"  # in the hashes of plans that noted no PACKING_VERSION
GONE = "goes, as slides= does not name it or it has no work"
NO_SLIDES: Mapping[str, str] = {}


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Why finished shards are no longer what would be made now, and those of which batches."""

    reasons: list[str] = field(default_factory=list)
    batches: set[int] = field(default_factory=set)


def known_splits(preparation: Preparation) -> dict[str, str]:
    """Return the split of every patient that has one already; none where it was drawn by other settings."""
    plan, now = read_plan(preparation.root), drawn_by(preparation)
    if plan is None:
        return {}
    before = plan.drawn_by or {name: read_settings(preparation.root).get(name) for name in now}
    return plan.of_patient if before == now else {}


def drawn_by(preparation: Preparation) -> dict[str, Any]:
    """Return the settings that decide who is held out."""
    told = preparation.pack_settings.to_dict()
    return {name: told[name] for name in ("split_mode", "test_fraction", "seed")}


def packed_specs(preparation: Preparation, plan: ShardPlan | None) -> list[SlideSpec]:
    """Return the slides of the shards that the preparation does not name, as they were named when they were packed."""
    specs = []
    for name in [n for n in plan.slides if n not in preparation.spec_of] if plan else []:
        if name in plan.table:
            specs.append(plan.table[name])
        elif state := preparation.store(name).done():  # labels and splits of its table are lost
            specs.append(SlideSpec(path=Path(state.path), name=name, patient=state.patient))
    return specs


def changes_of(plan: ShardPlan, contents: Contents, stale: Mapping[str, str] = NO_SLIDES) -> Changes:
    """Compare what the shards were made of with what they would be made of now.

    stale: slides that are yet to be read again, and why.
    """
    if plan.made_of is None:
        return _changes_of_old(plan, contents, stale)
    now, before = json.loads(json.dumps(made_of(contents), default=str)), plan.made_of
    common = differences(
        {name: value for name, value in before.items() if name != "slides"},
        {name: value for name, value in now.items() if name != "slides"},
    )
    reasons, batches = list(common), set(range(len(plan.batches))) if common else set()
    for number, batch in enumerate(plan.batches):
        for name in batch:
            reason = _reason(before["slides"].get(name), now["slides"].get(name), stale.get(name, ""))
            if reason:
                reasons.append(f"slide {name}: {reason}")
                batches.add(number)
    return Changes(reasons=reasons, batches=batches)


def _reason(before: dict[str, Any] | None, now: dict[str, Any] | None, why_stale: str) -> str:
    if now is None:
        return GONE
    if why_stale:
        return f"{why_stale}, so that it is read again"
    return "; ".join(differences(before, now))


def _changes_of_old(plan: ShardPlan, contents: Contents, stale: Mapping[str, str]) -> Changes:
    """Compare by the hashes of older versions, which do not say what differs."""
    told = read_settings(contents.root)
    now = contents.preparation.pack_settings.to_dict()
    reasons = differences({k: v for k, v in told.items() if k in now}, {k: v for k, v in now.items() if k in told})
    have, batches = {state.slide for state in contents.done}, set()
    for number, (batch, facts) in enumerate(zip(plan.batches, plan.facts or [], strict=True)):
        gone, again = sorted(set(batch) - have), sorted(set(batch) & set(stale))
        reasons += [f"slide {name}: {GONE}" for name in gone]
        reasons += [f"slide {name}: {_reason({}, {}, stale[name])}" for name in again]
        if gone or again or facts != _old_facts(batch, contents):
            batches.add(number)
    if batches and not reasons:
        reasons = ["settings, splits, labels or slides that an older version did not note in words"]
    return Changes(reasons=reasons, batches=batches)


def new_plan(old: ShardPlan | None, contents: Contents, changes: Changes) -> ShardPlan:
    """Return the plan of what is to be packed: batches without a change stay, slides that came since are one more."""
    names, preparation = {state.slide for state in contents.done}, contents.preparation
    specs = preparation.spec_of
    now = {
        "of_patient": contents.split.of_patient,
        "drawn_by": drawn_by(preparation),
        "made_of": made_of(contents),
        "table": {name: replace(specs[name], path=specs[name].path.absolute()) for name in sorted(names)},
    }
    if old is None or is_all_anew(old, changes):
        return ShardPlan(batches=[sorted(names)], **now)
    batches = [[name for name in batch if name in names] for batch in old.batches]
    added = sorted(names.difference(*batches))
    return replace(old, batches=[*batches, added] if added else batches, facts=None, inputs_sha256=None, **now)


def is_all_anew(plan: ShardPlan, changes: Changes) -> bool:
    """Say whether no shard can stay; plans of older versions do not say which shards are whose."""
    changed = {number for number, batch in enumerate(plan.batches) if batch} <= changes.batches
    return bool(changes.batches) and (plan.shards is None or changed)


def made_of(contents: Contents) -> dict[str, Any]:
    """Return all that decides the bytes of shards besides the batches, in words."""
    preparation, split = contents.preparation, contents.split
    return {
        "packing_version": PACKING_VERSION,
        "settings": {name: value for name, value in preparation.settings_dict().items() if name != "name"},
        "held_out": split.held_out,
        "slides": {
            state.slide: {
                "patient": state.patient,
                "split": split.of_patient[state.patient],
                "file": state.file.quick_hash,
                "mpp": state.scale.mpp_level0,
                "labels": preparation.spec_of[state.slide].labels,
                "drawn": (state.told or {}).get("regions_sha256"),
                "by_area": state.by_area,
                **{name: told for name, told in (state.told or {}).items() if name in ("tissue", "icc")},
            }
            for state in contents.done
        },
    }


def inputs_hash(states: list[SlideState], contents: Contents, version: int | str = PACKING_VERSION) -> str:
    """Return a hash of everything the data set is made of, the slides that failed included."""
    preparation, split = contents.preparation, contents.split
    settings = preparation.settings_dict() if version == PACKING_VERSION else _old_settings(preparation)
    lines = []
    for state in states:
        line = [state.slide, state.patient, state.status, None, preparation.spec_of[state.slide].labels]
        if isinstance(state, DoneSlide):
            line[3] = state.file.quick_hash
            line += [state.told] if state.told else []
            line += [state.scale.mpp_level0, state.by_area] if version == PACKING_VERSION else []
        lines.append(line)
    return _sha256([version, settings, split.held_out, split.of_patient, lines])


def _old_facts(batch: list[str], contents: Contents) -> str:
    """Return the hash by which older versions knew what a batch's shards were made of."""
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
    return _sha256([LEGACY_VERSION, _old_settings(preparation), split.held_out, lines])


def _old_settings(preparation: Preparation) -> dict[str, Any]:
    """Return the settings as older versions hashed them, the scale of slides without one among them."""
    settings = preparation.settings_dict() | {"mpp": read_settings(preparation.root).get("mpp")}
    return {name: value for name, value in settings.items() if name != "icc"}


def _sha256(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
