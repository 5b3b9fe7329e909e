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

    `report` sums over the global batch. The sums are part of a checkpoint, so that a run which goes on in the middle of
    a window reports what an undisturbed one does. A window holds as many steps as it is given, so the interval of
    reports may change between two starts.
    """

    def __init__(self, ladder: Ladder, device: torch.device) -> None:
        self.ladder, self.device = ladder, device
        self.reset()

    def reset(self) -> None:
        """Begin a new window."""
        self._sums: list[Tensor] = []  # a step, float64 (K,)
        self._counts: list[Tensor] = []
        self._norms: list[Tensor] = []  # a step, float64 ()
        self._extras: dict[str, Tensor] = {}
        self._num_extras = 0
        self._begin_step()

    def add(self, outputs: dict[str, Tensor], rung: Tensor) -> None:
        """Add one micro-batch of the current step: loss_per_sample (b,) and scalars, rung int64 (b,)."""
        losses = outputs["loss_per_sample"].detach().double()
        self._step_sum.index_add_(0, rung, losses)
        self._step_count.index_add_(0, rung, torch.ones_like(losses))
        for name, value in outputs.items():
            if name != "loss_per_sample":
                value = torch.as_tensor(value, device=self.device).detach().double().mean()
                self._extras[name] = self._extras.get(name, 0.0) + value
        self._num_extras += 1

    def end_step(self, gradient_norm: Tensor) -> None:
        """Close the current step."""
        self._sums.append(self._step_sum)
        self._counts.append(self._step_count)
        self._norms.append(gradient_norm.detach().double())
        self._begin_step()

    def check(self, fabric: Fabric, step: int, way_back: str) -> None:
        """Stop a run whose loss or gradient is no number any more; `step` is the number of steps made.

        Raises:
            UserError: names the step, the magnifications and the way back (`Keeper.way_back`).
        """
        if not self._sums:
            return
        sums, norms = _summed(fabric, torch.stack(self._sums)), torch.stack(self._norms).cpu()
        bad_step = ~torch.isfinite(sums).all(dim=1) | ~torch.isfinite(norms)
        if not bad_step.any():
            return
        first = int(torch.nonzero(bad_step)[0])
        rungs = torch.nonzero(~torch.isfinite(sums[first])).flatten().tolist()
        where = ", ".join(self.ladder[k].label for k in rungs) or "in the gradient only"
        raise UserError(
            f"step {step - len(sums) + first + 1}: the loss is not a finite number any more ({where}); {way_back}. "
            "A lower optim.clip_norm may do instead; if it happens there again, look at the samples of that step"
        )

    def report(self, fabric: Fabric) -> dict[str, float]:
        """Return the window's means over the global batch, by metric name, and begin a new window."""
        sums = _summed(fabric, torch.stack(self._sums).sum(0))
        counts = _summed(fabric, torch.stack(self._counts).sum(0))
        metrics = {"loss": float(sums.sum() / counts.sum())}
        for k in torch.nonzero(counts).flatten().tolist():
            metrics[f"loss/{self.ladder[k].label}"] = float(sums[k] / counts[k])
        num_extras = _summed(fabric, sums.new_tensor(self._num_extras, device=self.device))
        for name in sorted(self._extras):
            metrics[name] = float(_summed(fabric, self._extras[name]) / num_extras)
        metrics["gradient_norm"] = float(torch.stack(self._norms).mean())
        self.reset()
        return metrics

    def state_dict(self, fabric: Fabric) -> dict[str, Any]:
        """Return the sums over all processes, by step."""
        empty = torch.zeros(0, len(self.ladder), dtype=torch.float64, device=self.device)
        return {
            "sums": _summed(fabric, torch.stack(self._sums) if self._sums else empty),
            "counts": _summed(fabric, torch.stack(self._counts) if self._counts else empty),
            "gradient_norms": torch.stack(self._norms).cpu() if self._norms else empty[:, 0].cpu(),
            "extras": {name: _summed(fabric, value) for name, value in sorted(self._extras.items())},
            "num_extras": int(_summed(fabric, torch.tensor(float(self._num_extras), device=self.device))),
            "filled": len(self._sums),
        }

    def load_state_dict(self, state: dict[str, Any], fabric: Fabric) -> None:
        """Go on with a window; only the first process takes the sums, since reports add all processes up."""
        mine, filled = float(fabric.global_rank == 0), state["filled"]

        def steps(name: str, factor: float) -> list[Tensor]:
            return list(state[name][:filled].to(self.device) * factor)  # the first version saved rows beyond `filled`

        self._sums, self._counts = steps("sums", mine), steps("counts", mine)
        self._norms = steps("gradient_norms", 1.0)
        self._extras = {name: value.to(self.device) * mine for name, value in state["extras"].items()}
        self._num_extras = state["num_extras"] if mine else 0

    def _begin_step(self) -> None:
        self._step_sum = torch.zeros(len(self.ladder), dtype=torch.float64, device=self.device)
        self._step_count = torch.zeros_like(self._step_sum)


def _summed(fabric: Fabric, tensor: Tensor) -> Tensor:
    """Return the sum over all processes, on the CPU; the tensor itself stays as it is."""
    return fabric.all_reduce(tensor.clone(), reduce_op="sum").cpu()
