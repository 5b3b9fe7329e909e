"""What the training loop asks of the thing it trains; the autoencoder, ZoomLDM and the EDM each are one.

Legend: b batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from torch import Tensor, nn

from zoomldm.data.batch import Batch
from zoomldm.errors import WeightsError


class Trainable(nn.Module):
    """A module whose forward is a training loss.

    Attributes:
        kind: name in run.json and checkpoints: autoencoder, zoomldm or edm.
        columns: what batches must carry besides rung and sample number: some of image, latent, grid.
        compiled_parts: names of the submodules that torch.compile may take, those whose inputs keep their shape.
    """

    kind: ClassVar[str]
    columns: tuple[str, ...]
    compiled_parts: ClassVar[tuple[str, ...]] = ()

    def forward(self, batch: Batch, seed: int) -> dict[str, Tensor]:
        """Give {"loss_per_sample": float32 (b,), ...}: differentiable, and further detached scalars to log.

        Every random draw is keyed by (seed, batch.sample_number); the loop averages the loss over the global batch.
        """
        raise NotImplementedError

    def before_step(self, step: int) -> None:
        """Hear that an optimiser step begins, the step-th from 0, whatever the number of its micro-batches."""

    def sampling_model(self) -> nn.Module:
        """Give the part that sampling needs; its (EMA) weights are the small file of a checkpoint."""
        return self

    @property
    def statistics_columns(self) -> tuple[str, ...]:
        """The columns that ``measure_statistics`` reads."""
        return self.columns

    def measure_statistics(self, batch: Batch) -> None:
        """Pass a batch through whatever has batch norm, whose statistics are being measured; no loss is needed."""
        self(batch, 0)

    def compile_parts(self) -> None:
        """Compile, in place, the networks of fixed input shape."""
        for name in self.compiled_parts:
            self.get_submodule(name).compile()

    def trained_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Name the parameters that are optimised and averaged (EMA)."""
        return ((name, parameter) for name, parameter in self.named_parameters() if parameter.requires_grad)

    def param_groups(self) -> list[dict[str, Any]]:
        """Split the trained parameters for the optimiser: weight decay is for matrices and kernels alone.

        They are what a layer calls its weight; embeddings, positions and null tokens are not.
        """
        decayed, plain = [], []
        for name, parameter in self.trained_parameters():
            (decayed if self._is_kernel(name, parameter) else plain).append(parameter)
        groups = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
        return [group for group in groups if group["params"]]

    def _is_kernel(self, name: str, parameter: nn.Parameter) -> bool:
        owner, _, own_name = name.rpartition(".")
        is_embedding = isinstance(self.get_submodule(owner), nn.Embedding)
        return parameter.ndim >= 2 and own_name.endswith("weight") and not is_embedding

    def extra_state(self) -> dict[str, Any]:
        """Give the facts beside the weights that sampling needs, as JSON values."""
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Take the facts back.

        Raises:
            WeightsError: a fact that is part of this model's shape (a whole number, a name, a list) differs.
        """
        for name, expected in self.extra_state().items():
            if name in state and not isinstance(expected, float) and state[name] != expected:
                raise WeightsError(
                    f"checkpoint of {self.kind}: {name} is {state[name]!r}, but this configuration makes {expected!r}; "
                    "use the configuration of that run, or another run_name"
                )
