"""Checkpoints: a folder a step, whole or absent, verified when read, and kept by policy.

    checkpoints/step-00000900/state.pt            what going on needs: weights, averages, optimiser, the loop's place
                              model.safetensors   what sampling needs: averaged (EMA) weights, buffers measured anew
                              checkpoint.json     step, checksums of both, the trainable's facts (written last)

`state.pt` is read with `weights_only=True`.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoomldm.errors import UserError, WeightsError
from zoomldm.files import raise_if_disk_fault, rename, sha256_of, sync, write_json
from zoomldm.runs.run import checkpoint_steps

FORMAT_VERSION = 1
STATE_NAME, MODEL_NAME, INFO_NAME = "state.pt", "model.safetensors", "checkpoint.json"


@dataclass(frozen=True, kw_only=True)
class CheckpointInfo:
    """What checkpoint.json says.

    extra_state: the trainable's facts; validation_loss: mean over magnifications at this step, None when not measured;
    world_size, micro_batch: how the global batch was divided; sha256: by file name; parents: what it was trained with, by
    SHA-256 (see lineage), {} in checkpoints of earlier versions.
    """

    kind: str
    step: int
    extra_state: dict[str, Any]
    samples_seen: dict[str, int] = field(default_factory=dict)
    validation_loss: float | None = None
    world_size: int = 1
    micro_batch: int = 0
    sha256: dict[str, str] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    @property
    def model_sha256(self) -> str:
        """Of the averaged weights, by which what stands on this model names it as its parent."""
        return self.sha256[MODEL_NAME]


class Checkpoints:
    """The checkpoints of one run.

    keep_last: newest ones kept; keep_every: those at multiples of it are kept for ever, None keeps no others. The one
    with the lowest validation loss is kept too.
    """

    def __init__(self, folder: Path, *, keep_last: int = 2, keep_every: int | None = None) -> None:
        self.folder, self.keep_last, self.keep_every = Path(folder), keep_last, keep_every

    def steps(self) -> list[int]:
        """Return the steps of all checkpoints, ascending."""
        return checkpoint_steps(self.folder)

    def path(self, step: int) -> Path:
        """Return the folder of the checkpoint at `step`."""
        return self.folder / f"step-{step:08d}"

    def info(self, step: int) -> CheckpointInfo:
        """Read checkpoint.json.

        Raises:
            WeightsError: unreadable, or of another format version.
        """
        path = self.path(step) / INFO_NAME
        try:
            content = json.loads(path.read_bytes())
            if content.get("format_version") != FORMAT_VERSION:
                raise WeightsError(
                    f"{path}: format version {content.get('format_version')}, this code reads {FORMAT_VERSION}; "
                    "use the code that wrote it, or train with fresh=true"
                )
            return CheckpointInfo(**content)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise WeightsError(f"{path}: cannot be read ({error})") from error

    def save(self, info: CheckpointInfo, state: dict[str, Any], model: dict[str, Tensor]) -> Path:
        """Write a checkpoint under a temporary name, rename it, then delete those that the policy lets go.

        Raises:
            UserError: the disk is full; the checkpoints that were there are still whole.
        """
        from safetensors.torch import save_file

        final, temporary = self.path(info.step), self.folder / f".step-{info.step:08d}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            temporary.mkdir(parents=True)
            torch.save(state, temporary / STATE_NAME)
            save_file({name: tensor.contiguous() for name, tensor in model.items()}, temporary / MODEL_NAME)
            shutil.copymode(temporary / STATE_NAME, temporary / MODEL_NAME)  # safetensors makes it the owner's alone
            for name in (STATE_NAME, MODEL_NAME):
                sync(temporary / name)
            checksums = {name: sha256_of(temporary / name) for name in (STATE_NAME, MODEL_NAME)}
            write_json(temporary / INFO_NAME, {**asdict(info), "sha256": checksums})
            shutil.rmtree(final, ignore_errors=True)
            rename(temporary, final)
        except Exception as error:
            shutil.rmtree(temporary, ignore_errors=True)
            if _is_disk_full(error):
                self._report_full_disk(final)
            if isinstance(error, OSError):
                raise_if_disk_fault(error, final)
            raise
        self.prune()
        return final

    def verify(self, step: int, names: Sequence[str] = (STATE_NAME, MODEL_NAME)) -> CheckpointInfo:
        """Compare a checkpoint's files with their checksums.

        Raises:
            WeightsError: names the file that differs.
        """
        info = self.info(step)
        for name in names:
            path = self.path(step) / name
            if not path.is_file() or sha256_of(path) != info.sha256[name]:
                raise WeightsError(f"{path}: {'damaged' if path.is_file() else 'missing'} (its checksum is another)")
        return info

    def newest_whole(self, names: Sequence[str] = (STATE_NAME, MODEL_NAME)) -> CheckpointInfo | None:
        """Return the newest checkpoint whose checksums agree, with a warning for each that is damaged.

        Raises:
            WeightsError: there are checkpoints, all of them damaged.
        """
        steps = self.steps()
        for step in reversed(steps):
            try:
                return self.verify(step, names)
            except WeightsError as error:
                print(f"warning: {error}; going back to the checkpoint before it", file=sys.stderr, flush=True)
        if steps:
            raise WeightsError(f"{self.folder}: all {len(steps)} checkpoints are damaged; fresh=true starts anew")
        return None

    def load_state(self, step: int, device: torch.device | str = "cpu") -> dict[str, Any]:
        """Read the state of a checkpoint."""
        return torch.load(self.path(step) / STATE_NAME, map_location=device, weights_only=True)

    def prune(self) -> None:
        """Delete what the policy does not keep, and what a killed save left behind."""
        steps = self.steps()
        kept = set(steps[-max(1, self.keep_last) :]) | {
            s for s in steps if self.keep_every and s % self.keep_every == 0
        }
        best = self.best()
        for step in steps:
            if step not in kept and step != best:
                shutil.rmtree(self.path(step), ignore_errors=True)
        for leftover in self.folder.glob(".step-*.tmp"):
            shutil.rmtree(leftover, ignore_errors=True)

    def best(self) -> int | None:
        """Return the step of the lowest validation loss, None where none was measured."""
        measured = {}
        for step in self.steps():
            try:
                loss = self.info(step).validation_loss
            except WeightsError:
                continue
            if loss is not None:
                measured[step] = loss
        return min(measured, key=measured.get) if measured else None

    def _report_full_disk(self, path: Path) -> None:
        last = self.steps()[-1:]
        have = f"the checkpoint of step {last[0]} is whole" if last else "there is no earlier checkpoint"
        raise UserError(f"{path}: the disk is full; {have}; free some space and run the same command again") from None


def load_model(run_folder: Path, step: int | None = None) -> tuple[CheckpointInfo, dict[str, Tensor]]:
    """Read the averaged weights of a run, of its newest whole checkpoint unless `step` is given.

    Raises:
        WeightsError: the run has no checkpoint (of that step), or it is damaged.
    """
    from safetensors.torch import load_file

    checkpoints = Checkpoints(Path(run_folder) / "checkpoints")
    if step is not None and step not in checkpoints.steps():
        have = ", ".join(map(str, checkpoints.steps())) or "none"
        raise WeightsError(f"{run_folder}: no checkpoint of step {step}; it has {have}")
    info = newest_model(run_folder) if step is None else checkpoints.verify(step, (MODEL_NAME,))
    return info, load_file(checkpoints.path(info.step) / MODEL_NAME)


def newest_model(run_folder: Path) -> CheckpointInfo:
    """Return the newest checkpoint of a run whose averaged weights are whole.

    Raises:
        WeightsError: the run has no checkpoint, or all are damaged.
    """
    info = Checkpoints(Path(run_folder) / "checkpoints").newest_whole((MODEL_NAME,))
    if info is None:
        raise WeightsError(f"{run_folder}: no checkpoint yet; train it first (the command is in its run.json)")
    return info


def _is_disk_full(error: BaseException) -> bool:
    """Say whether a save failed for want of space; torch.save and safetensors raise errors of their own for it."""
    text = str(error)
    return any(
        sign in text for sign in ("No space left", "os error 28", "unexpected pos", "Disk quota", "os error 122")
    )
