"""What the steps of a training change, and how it is kept in checkpoints and taken back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from zoomldm.data.order.loader import Partition
from zoomldm.data.order.sequence import GlobalSequence
from zoomldm.ladder import Ladder
from zoomldm.model.trainable import Trainable
from zoomldm.runs.checkpoint import CheckpointInfo, Checkpoints
from zoomldm.runs.lineage import require_same_parents
from zoomldm.training.ema import Ema
from zoomldm.training.optim import build_optimizer
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
            "ema": self.ema.state_dict(),
            "window": self.window.state_dict(fabric),
            "explosion": self.explosion.state_dict(),
            "validation_loss": self.validation_loss,
        }

    def load_state_dict(self, saved: dict[str, Any], fabric: Fabric) -> None:
        """Go on with what was saved."""
        self.trainable.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.ema.load_state_dict(saved["ema"])
        self.window.load_state_dict(saved["window"], fabric)
        self.explosion.load_state_dict(saved["explosion"])
        self.validation_loss = saved["validation_loss"]


@dataclass(frozen=True, kw_only=True)
class Keeper:
    """Saves the state of a run and takes it back.

    Attributes:
        parents: what the trainable stands on, by SHA-256.
        sequence, part: how the samples of a step are chosen and divided, for what a checkpoint says of them.
    """

    state: TrainingState
    checkpoints: Checkpoints
    parents: dict[str, str]
    sequence: GlobalSequence
    part: Partition
    fabric: Fabric
    reporter: Reporter

    @property
    def last_good(self) -> str:
        """Which checkpoint there is to go back to, in words."""
        steps = self.checkpoints.steps()
        return f"the last good checkpoint is step {steps[-1]}" if steps else "there is no checkpoint yet"

    def resume(self) -> int:
        """Load the newest whole checkpoint and return its step, 0 where there is none.

        Raises:
            UserError: it was trained with other parents.
        """
        self.fabric.barrier()
        info = self.checkpoints.newest_whole()
        self.fabric.barrier()
        step = 0 if info is None else info.step
        self.reporter.go_back_to(step)
        if info is None:
            return 0
        require_same_parents(self.reporter.run.name, info.parents, self.parents)
        self.state.trainable.load_extra_state(info.extra_state)
        self.state.load_state_dict(self.checkpoints.load_state(step, self.fabric.device), self.fabric)
        self.reporter.going_on(info, self.part)
        return step

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
                parents=self.parents,
            )
            self.checkpoints.save(info, state, weights)
            self.reporter.run.update(step=step)
        self.fabric.barrier()


def copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return copies of tensors that the next step changes."""
    return {name: tensor.detach().clone() for name, tensor in state.items()}
