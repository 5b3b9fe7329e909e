"""The losses of the steps since the last report, kept on the device so that no step waits for them.

Legend: w steps of the window, K rungs of the ladder.
"""

from __future__ import annotations

from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from zoomldm.errors import UserError
from zoomldm.ladder import Ladder


class Window:
    """Sums of losses by step and rung, of gradient norms, and of a trainable's further scalars.

    Everything is summed over the global batch by `report`; the sums are part of a checkpoint, so that a run which goes
    on in the middle of a window reports what an undisturbed one does.
    """

    def __init__(self, num_steps: int, ladder: Ladder, device: torch.device) -> None:
        self.ladder = ladder
        self.sums = torch.zeros(num_steps, len(ladder), dtype=torch.float64, device=device)
        self.counts = torch.zeros_like(self.sums)
        self.gradient_norms = torch.zeros(num_steps, dtype=torch.float64, device=device)
        self.extras: dict[str, Tensor] = {}
        self.num_extras = 0
        self.filled = 0

    def add(self, outputs: dict[str, Tensor], rung: Tensor) -> None:
        """Add one micro-batch of the current step: loss_per_sample (b,) and scalars, rung int64 (b,)."""
        losses = outputs["loss_per_sample"].detach().double()
        self.sums[self.filled].index_add_(0, rung, losses)
        self.counts[self.filled].index_add_(0, rung, torch.ones_like(losses))
        for name, value in outputs.items():
            if name != "loss_per_sample":
                value = torch.as_tensor(value, device=self.sums.device).detach().double().mean()
                self.extras[name] = self.extras.get(name, 0.0) + value
        self.num_extras += 1

    def end_step(self, gradient_norm: Tensor) -> None:
        """Close the current step."""
        self.gradient_norms[self.filled] = gradient_norm.detach()
        self.filled += 1

    def check(self, fabric: Fabric, step: int, last_good: str) -> None:
        """Stop a run whose loss or gradient is no number any more; `step` is the number of steps made.

        Raises:
            UserError: names the step, the magnifications and the last good checkpoint.
        """
        sums = _summed(fabric, self.sums[: self.filled])
        norms = self.gradient_norms[: self.filled].cpu()
        bad_step = ~torch.isfinite(sums).all(dim=1) | ~torch.isfinite(norms)
        if not bad_step.any():
            return
        first = int(torch.nonzero(bad_step)[0])
        rungs = torch.nonzero(~torch.isfinite(sums[first])).flatten().tolist()
        where = ", ".join(self.ladder[k].label for k in rungs) or "in the gradient only"
        raise UserError(
            f"step {step - self.filled + first + 1}: the loss is not a finite number any more ({where}); {last_good}. "
            "Lower optim.lr or optim.clip_norm, or look at the samples of that magnification, and run it again"
        )

    def report(self, fabric: Fabric) -> dict[str, float]:
        """Return the window's means over the global batch, by metric name, and begin a new window."""
        sums = _summed(fabric, self.sums.sum(0))
        counts = _summed(fabric, self.counts.sum(0))
        metrics = {"loss": float(sums.sum() / counts.sum())}
        for k in torch.nonzero(counts).flatten().tolist():
            metrics[f"loss/{self.ladder[k].label}"] = float(sums[k] / counts[k])
        num_extras = _summed(fabric, self.sums.new_tensor(self.num_extras))
        for name in sorted(self.extras):
            metrics[name] = float(_summed(fabric, self.extras[name]) / num_extras)
        metrics["gradient_norm"] = float(self.gradient_norms[: self.filled].mean())
        self.reset()
        return metrics

    def reset(self) -> None:
        """Begin a new window."""
        for tensor in (self.sums, self.counts, self.gradient_norms):
            tensor.zero_()
        self.extras, self.num_extras, self.filled = {}, 0, 0

    def state_dict(self, fabric: Fabric) -> dict[str, Any]:
        """Return the sums over all processes."""
        return {
            "sums": _summed(fabric, self.sums),
            "counts": _summed(fabric, self.counts),
            "gradient_norms": self.gradient_norms.cpu().clone(),
            "extras": {
                name: fabric.all_reduce(v.clone(), reduce_op="sum").cpu() for name, v in sorted(self.extras.items())
            },
            "num_extras": int(_summed(fabric, self.sums.new_tensor(self.num_extras))),
            "filled": self.filled,
        }

    def load_state_dict(self, state: dict[str, Any], fabric: Fabric) -> None:
        """Go on with a window; only the first process takes the sums, since reports add all processes up."""
        mine = float(fabric.global_rank == 0)
        if state["filled"] > len(self.sums):
            return  # train.log_every was lowered: this window is not reported
        num_steps = min(len(self.sums), len(state["sums"]))
        self.sums[:num_steps] = state["sums"][:num_steps].to(self.sums.device) * mine
        self.counts[:num_steps] = state["counts"][:num_steps].to(self.counts.device) * mine
        self.gradient_norms[:num_steps] = state["gradient_norms"][:num_steps].to(self.sums.device)
        self.extras = {name: value.to(self.sums.device) * mine for name, value in state["extras"].items()}
        self.num_extras = state["num_extras"] if mine else 0
        self.filled = state["filled"]


class ExplosionWatch:
    """Stop a run whose mean loss is `factor` times what it has been: the lowest report so far."""

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.lowest: float | None = None
        self.first: float | None = None

    def see(self, loss: float, step: int, worst: str, last_good: str) -> None:
        """Take one report's mean loss.

        Raises:
            UserError: the loss is above `factor` times both the first report and the lowest.
        """
        self.first = loss if self.first is None else self.first
        limit = self.factor * max(abs(self.first), abs(self.lowest or 0.0))
        if abs(loss) > limit:
            raise UserError(
                f"step {step}: the loss is {loss:.4g}, {self.factor:g} times what it was at first ({self.first:.4g}); "
                f"worst at {worst}; {last_good}. Lower optim.lr, or raise optim.warmup_steps, and run it again"
            )
        self.lowest = loss if self.lowest is None else min(self.lowest, loss)

    def state_dict(self) -> dict[str, float | None]:
        """Return what was seen."""
        return {"lowest": self.lowest, "first": self.first}

    def load_state_dict(self, state: dict[str, float | None]) -> None:
        """Take back what was seen."""
        self.lowest, self.first = state["lowest"], state["first"]


def _summed(fabric: Fabric, tensor: Tensor) -> Tensor:
    """Return the sum over all processes, on the CPU; the tensor itself stays as it is."""
    return fabric.all_reduce(tensor.clone(), reduce_op="sum").cpu()
