"""What stands on what: a checkpoint names its parents by the SHA-256 of their weights, and nothing is used with others.

    data ← autoencoder ← latents (a column of the data) ← ZoomLDM ← embedding diffusion model

A run that trains on under its old name makes other weights: what was made with the former ones no longer fits it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoomldm.errors import UserError
from zoomldm.files import sha256_of

DATA, AUTOENCODER, ZOOMLDM, LABELS = "data", "autoencoder", "zoomldm", "labels"
ORIGIN, INIT = "from", "init"
"""The parents that a checkpoint may name; labels are those of the data set by their content; the last two are the checkpoint of another run that its run began at, and the one whose weights it started from at step 0."""


@dataclass(frozen=True)
class Parent:
    """What something was made with, or would be used with.

    Attributes:
        name: of the run or the weight file; None where it is not known.
        sha256: of its weights; None where a checkpoint or a manifest of an earlier version does not say.
    """

    name: str | None
    sha256: str | None

    def __str__(self) -> str:
        name = self.name or "another one"
        return f"{name} (weights {self.sha256[:12]})" if self.sha256 else name


def require_parent(role: str, *, child: str, recorded: Parent, given: Parent, mend: str) -> None:
    """Refuse to use ``child`` with another parent than the one that it was made with.

    Weights are compared where both sides know them, else names.

    Args:
        role: what the parent is to the child, for the message: ``autoencoder``.
        child: what stands on it, for the message: ``run zoomldm_tiny-demo-film``.
        mend: the commands that mend it, for the end of the message.

    Raises:
        UserError: they differ; the message says how, and what mends it.
    """
    if recorded.sha256 and given.sha256:
        fits = recorded.sha256 == given.sha256
    else:
        fits = recorded.name is None or given.name is None or recorded.name == given.name
    if fits:
        return
    if role == DATA and recorded.name == given.name:
        how = f"with another state of its data set {given.name} ({_short(recorded)}, now {_short(given)}): slides, "
        how += "split or columns have changed since"
    elif role == LABELS:
        how = f"with other labels ({_short(recorded)}, now {_short(given)}): what label.file says has changed since"
    elif recorded.name in (None, given.name):
        which = f"its {role} {given.name}" if given.name else f"its {role}"
        how = f"with other weights of {which} ({_short(recorded)}, now {_short(given)}), which was trained on or made "
        how += "anew since"
    else:
        how = f"with the {role} {recorded}, not with {given}, which this configuration names"
    raise UserError(f"{child} was made {how}; {mend}")


def require_latents(latent: Mapping[str, Any], *, root: Path, autoencoder: Parent, command: str) -> None:
    """Refuse latents that another autoencoder made, or another state of the same one.

    Args:
        latent: facts of the manifest's latent column.
        command: makes them with ``autoencoder``.
    """
    require_parent(
        AUTOENCODER,
        child=f"{root}: its latent column",
        recorded=latents_parent(latent),
        given=autoencoder,
        mend=f"make it again with {command}",
    )


def require_autoencoder(
    run_name: str, parents: Mapping[str, str], *, latent: Mapping[str, Any] | None, autoencoder: Parent
) -> None:
    """Refuse to decode a ZoomLDM's latents by another autoencoder, or another state of it, than made them.

    Args:
        run_name, parents: of the ZoomLDM's checkpoint; one of an earlier version names no parents, and what the
            manifest says of the latent column counts instead.
        latent: facts of the manifest's latent column, None where there is none.
    """
    recorded = Parent(None, parents[AUTOENCODER]) if AUTOENCODER in parents else latents_parent(latent or {})
    require_parent(
        AUTOENCODER,
        child=f"run {run_name}",
        recorded=recorded,
        given=autoencoder,
        mend="make the latents again (`python data_prep/latents.py … repack=true`) and train it anew (`python src/train.py … "
        "fresh=true`, with the overrides that its run.json names), or bring back the weights that it was made with",
    )


def require_data(run_name: str, parents: Mapping[str, str], *, data: Parent) -> None:
    """Refuse a data set that was prepared anew since a run was trained on it: its held-out patients may be others.

    Args:
        data: the data set's name and identity over the columns that the run reads.
    """
    require_parent(
        DATA,
        child=f"run {run_name}",
        recorded=Parent(data.name, parents.get(DATA)),
        given=data,
        mend=f"to use it as it is now, name it: data={data.name}. Else train the run anew (`python src/train.py … "
        "fresh=true`, with the overrides that its run.json names); other slides are better prepared under a name of "
        "their own: data.name=NAME",
    )


def require_zoomldm(run_name: str, parents: Mapping[str, str], *, learnt: str | None, zoomldm: Parent) -> None:
    """Refuse an embedding diffusion model that learnt the tokens of another ZoomLDM, or of another state of it.

    Args:
        run_name, parents: of the embedding diffusion model's checkpoint.
        learnt: the ZoomLDM run that its configuration names.
    """
    require_parent(
        "ZoomLDM",
        child=f"embedding diffusion model {run_name}",
        recorded=Parent(learnt, parents.get(ZOOMLDM)),
        given=zoomldm,
        mend=f"train it anew on that run: `python src/train.py model=edm zoomldm.run={zoomldm.name} fresh=true` (demo: "
        "model=edm_tiny)",
    )


def require_step(run_name: str, parents: Mapping[str, str], *, zoomldm: Parent, step: int) -> None:
    """Refuse an embedding diffusion model that learnt the tokens of another step of a ZoomLDM than the one asked for.

    Raises:
        UserError: it did, or its checkpoint, one of an earlier version, does not say.
    """
    if parents.get(ZOOMLDM) != zoomldm.sha256:
        raise UserError(
            f"embedding diffusion model {run_name} learnt the tokens of another step of run {zoomldm.name} than of step "
            f"{step}, or does not say of which: leave out edm= for all rows but that of generated patches, or step= for all"
        )


GO_ON_OTHERWISE = "fresh=true deletes that run and starts anew, or choose another run_name="


def require_same_parents(
    run_name: str, before: Mapping[str, str], now: Mapping[str, str], *, mend: str = GO_ON_OTHERWISE
) -> None:
    """Refuse to go on with a run on other parents than those it has been trained with."""
    for role in sorted((before.keys() & now.keys()) - {DATA}):  # Run.open compares the data set
        require_parent(
            role,
            child=f"run {run_name}",
            recorded=Parent(None, before[role]),
            given=Parent(None, now[role]),
            mend=mend,
        )


def latents_parent(latent: Mapping[str, Any]) -> Parent:
    """Return the autoencoder that made a latent column, by the manifest's facts about it."""
    return Parent(latent.get("source"), latent.get("autoencoder_sha256"))


def parent_of_run(runs: str | Path, kind: str, name: str) -> Parent:
    """Return what a run's newest whole checkpoint is as a parent.

    Raises:
        UserError: no such run, or it has no checkpoint yet.
    """
    from zoomldm.runs.checkpoint import newest_model
    from zoomldm.runs.run import find_run

    return Parent(name, newest_model(find_run(runs, kind, name).folder).model_sha256)


def parent_of_file(path: str | Path) -> Parent:
    """Return what a published weight file is as a parent."""
    from zoomldm.weights.read import weight_file

    path = Path(path).expanduser()
    return Parent(path.name, sha256_of(weight_file(path)))


def _short(parent: Parent) -> str:
    return parent.sha256[:12] if parent.sha256 else "unknown"
