"""What the steps of a training change, and how it is kept in checkpoints and taken back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from zoomldm.data.order.loader import Partition
from zoomldm.data.order.sequence import GlobalSequence
from zoomldm.errors import UserError
from zoomldm.ladder import Ladder
from zoomldm.model.trainable import Trainable
from zoomldm.runs.checkpoint import CheckpointInfo, Checkpoints
from zoomldm.runs.lineage import ORIGIN, require_same_parents
from zoomldm.runs.origin import Origin, differing_networks, way_back
from zoomldm.training.ema import Ema
from zoomldm.training.optim import build_optimizer, first_names, learning_rate, load_optimizer, names_in_order
from zoomldm.training.reporter import Reporter
from zoomldm.training.settings import LoopSettings, OptimSettings
from zoomldm.training.watch import ExplosionWatch
from zoomldm.training.window import Window


@dataclass(kw_only=True)
class TrainingState:
    """Everything that a step changes.

    Attributes:
        model: the trainable as Fabric wraps it, with precision and processes.
        validation_loss: the last one measured.
    """

    trainable: Trainable
    model: nn.Module
    optimizer: Optimizer
    ema: Ema
    window: Window
    explosion: ExplosionWatch
    validation_loss: float | None = None

    @classmethod
    def begin(
        cls, trainable: Trainable, *, optim: OptimSettings, loop: LoopSettings, ladder: Ladder, fabric: Fabric
    ) -> TrainingState:
        """Build what trains a trainable that is on its device."""
        ema = Ema(trainable, optim.ema_decay)
        return cls(
            trainable=trainable,
            model=fabric.setup_module(trainable),
            optimizer=fabric.setup_optimizers(build_optimizer(trainable, optim)),
            ema=ema,
            window=Window(ladder, fabric.device),
            explosion=ExplosionWatch(loop.explosion_factor),
        )

    def state_dict(self, step: int, fabric: Fabric) -> dict[str, Any]:
        """Return what going on needs; called in every process."""
        return {
            "step": step,
            "model": self.trainable.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "optimizer_names": names_in_order(self.trainable, self.optimizer),
            "ema": self.ema.state_dict(),
            "window": self.window.state_dict(fabric),
            "explosion": self.explosion.state_dict(),
            "validation_loss": self.validation_loss,
        }

    def load_state_dict(self, saved: dict[str, Any], fabric: Fabric) -> None:
        """Go on with what was saved."""
        self.begin_at(saved)
        self.window.load_state_dict(saved["window"], fabric)
        self.validation_loss = saved["validation_loss"]

    def begin_at(self, saved: dict[str, Any]) -> None:
        """Take weights, averages, the optimiser's moments and what the first loss was; settings stay those of now."""
        self.trainable.load_state_dict(saved["model"])
        names = saved.get("optimizer_names") or first_names(self.trainable)
        now = names_in_order(self.trainable, self.optimizer)
        load_optimizer(self.optimizer, saved["optimizer"], names=names, now=now)
        self.ema.load_state_dict(saved["ema"])
        self.explosion.load_state_dict(saved["explosion"])


@dataclass(frozen=True, kw_only=True)
class Keeper:
    """Saves the state of a run and takes it back.

    Attributes:
        parents: what the trainable stands on, by SHA-256.
        origin: the checkpoint of another run that it begins at; words: the overrides that were typed.
        optim, steps: how it learns, and how long.
        sequence, part: how the samples of a step are chosen and divided, for what a checkpoint says of them.
    """

    state: TrainingState
    checkpoints: Checkpoints
    parents: dict[str, str]
    origin: Origin | None
    words: Sequence[str]
    optim: OptimSettings
    steps: int
    sequence: GlobalSequence
    part: Partition
    fabric: Fabric
    reporter: Reporter

    @property
    def way_back(self) -> str:
        """What to do when training went wrong: the last good checkpoint, and the command that begins there anew."""
        steps = self.checkpoints.steps()
        return way_back(self.reporter.run.name, steps[-1] if steps else None, lr=self.optim.lr, words=self.words)

    def resume(self) -> int:
        """Load the newest whole checkpoint and return its step, 0 where there is none.

        Raises:
            UserError: it was trained with other parents.
        """
        self.fabric.barrier()
        info = self.checkpoints.newest_whole()
        self.fabric.barrier()
        if info is None:
            return self._begin()
        step = info.step
        self.reporter.go_back_to(step)
        require_same_parents(self.reporter.run.name, info.parents, self.parents)
        self.state.trainable.load_extra_state(info.extra_state)
        self.state.load_state_dict(self.checkpoints.load_state(step, self.fabric.device), self.fabric)
        self.reporter.going_on(info, self.part)
        return step

    def _begin(self) -> int:
        """Begin a run: at another's checkpoint where it has an origin, else at step 0."""
        origin = self.origin
        self.reporter.go_back_to(origin.step if origin else 0)
        if origin is None:
            return 0
        folder = self.reporter.run.folder.parent / origin.run
        checkpoints = Checkpoints(folder / "checkpoints")
        info = checkpoints.verify(origin.step)
        another = f"choose another from=, or leave it out, since run {origin.run} stands on something else"
        require_same_parents(str(origin), info.parents, self.parents, mend=another)
        saved = checkpoints.load_state(origin.step, self.fabric.device)
        if misfits := misfitting(self.state.trainable, saved["model"]):
            raise UserError(
                f"from={origin}: that run trained another network ({misfits}); settings that differ: "
                f"{', '.join(differing_networks(folder, self.reporter.run.folder)) or 'none'}. Give those of that run"
            )
        self.state.trainable.load_extra_state(info.extra_state)
        self.state.begin_at(saved)
        rate = learning_rate(self.optim, origin.step, self.steps)
        self.reporter.say(
            f"beginning at step {origin.step} of run {origin.run}; the learning rate there is {rate:g}, "
            f"{rate / self.optim.peak_lr:.0%} of its peak"
        )
        return origin.step

    def save(self, step: int, weights: dict[str, Tensor], validation_loss: float | None) -> None:
        """Write a checkpoint; called in every process.

        Args:
            weights: the averaged ones, in the first process.
            validation_loss: measured at this step, None where it was not.
        """
        state = self.state.state_dict(step, self.fabric)
        if self.reporter.is_first:
            seen, ladder = self.sequence.position(step), self.state.window.ladder
            info = CheckpointInfo(
                kind=self.state.trainable.kind,
                step=step,
                extra_state=self.state.trainable.extra_state(),
                samples_seen={ladder[k].label: int(seen[k]) for k in range(len(ladder))},
                validation_loss=validation_loss,
                world_size=self.fabric.world_size,
                micro_batch=self.part.micro_batch,
                parents=self.parents | ({ORIGIN: self.origin.sha256} if self.origin else {}),
            )
            self.checkpoints.save(info, state, weights)
            self.reporter.run.update(step=step)
        self.fabric.barrier()


def misfitting(trainable: Trainable, saved: Mapping[str, Tensor]) -> str:
    """Say which tensors of another network do not fit; '' where all do."""
    own = trainable.state_dict()
    wrong = [name for name in {**own, **saved} if name not in own or name not in saved]
    wrong += [name for name in own.keys() & saved.keys() if own[name].shape != saved[name].shape]
    return f"{len(wrong)} tensors differ, as {min(wrong)}" if wrong else ""


def copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return copies of tensors that the next step changes."""
    return {name: tensor.detach().clone() for name, tensor in state.items()}
