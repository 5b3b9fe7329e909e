"""From conditions to pixels: pictures of training, sample.py, evaluate.py and published models all go this way.

Legend: b batch, p patch side (px), n tokens, d token width, c h w latent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from einops import rearrange, repeat
from torch import Tensor

from zoomldm.data.batch import Batch, GridGroup
from zoomldm.data.pixels import to_float, to_uint8
from zoomldm.diffusion.guidance import Interval, timesteps_within
from zoomldm.diffusion.schedules.base import NoiseSchedule
from zoomldm.diffusion.solvers.base import Solver
from zoomldm.errors import UserError
from zoomldm.ladder import Rung
from zoomldm.sampling.compute import Compute
from zoomldm.sampling.settings import Sampling


class LatentModel(Protocol):
    """What is asked of ZoomLDM; ``columns`` names ``grid`` where the tokens depend on the patch."""

    columns: tuple[str, ...]
    schedule: NoiseSchedule

    def tokens(self, grids: Sequence[GridGroup] | None, rung: Tensor) -> Tensor:
        """Summarise grids to tokens `b n d`."""

    def passes(self, guidance_scale: float) -> int:
        """Return how often the network computes a sample in a step: once, or with and without its condition."""

    def sample(
        self,
        tokens: Tensor,
        sample_numbers: Tensor,
        *,
        seed: int,
        solver: Solver,
        num_steps: int,
        guidance_scale: float,
        guidance_interval: Interval | None,
    ) -> Tensor:
        """Draw unscaled latents `b c h w`; each a pure function of (seed, its sample number, its tokens)."""


class TokenModel(Protocol):
    """What is asked of the embedding diffusion model."""

    def sample(
        self,
        rung: Tensor,
        sample_numbers: Tensor,
        *,
        seed: int,
        solver: Solver,
        num_steps: int,
        guidance_scale: float,
        guidance_interval: Interval | None,
    ) -> Tensor:
        """Draw tokens `b n d` for rungs (b,)."""


class Decoder(Protocol):
    """What is asked of the autoencoder."""

    def encode(self, images: Tensor) -> Tensor:
        """Encode images in [-1, 1]."""

    def decode(self, latents: Tensor) -> Tensor:
        """Decode unscaled latents to images in about [-1, 1]."""


CPU = Compute()


class PatchGenerator:
    """Turn conditions into uint8 patches: solver, guidance and autoencoder.

    The same seed and sample numbers give the same patches; batches of another size change no more than rounding does.

    Args:
        sampling: of ``model``; edm_sampling: of ``edm``, as ``sampling`` where not given.
        compute: device and precision of all three.
    """

    def __init__(
        self,
        model: LatentModel,
        autoencoder: Decoder,
        *,
        sampling: Sampling,
        edm: TokenModel | None = None,
        edm_sampling: Sampling | None = None,
        seed: int = 0,
        compute: Compute = CPU,
    ) -> None:
        self.model, self.autoencoder, self.edm = model, autoencoder, edm
        self.sampling, self.edm_sampling = sampling, edm_sampling or sampling
        self.seed, self.compute, self.device = seed, compute, compute.device
        self._padded_to = 0
        for part in (model, autoencoder, edm):
            compute.prepare(part)

    def of(self, model: LatentModel, sampling: Sampling | None = None) -> PatchGenerator:
        """Return a generator of a model of the same latents, sampled in the same way or another, without an EDM."""
        options = {"sampling": sampling or self.sampling, "seed": self.seed, "compute": self.compute}
        return PatchGenerator(model, self.autoencoder, **options)

    @property
    def uses_grid(self) -> bool:
        """Whether the condition of a patch is its own, and not that of its magnification alone."""
        return "grid" in self.model.columns

    def passes(self, rung: int) -> int:
        """Return how often the network computes a patch of a magnification, over all steps."""
        how, plain = self.sampling, self.model.passes(1.0)
        guided = self.model.passes(how.scale_at(rung))
        if how.guidance_interval is None or guided == plain:
            return how.steps * guided
        low, high = timesteps_within(how.guidance_interval, self.model.schedule.num_timesteps)
        timesteps = how.solver.timesteps(how.steps, self.model.schedule.num_timesteps)
        num_inside = int(((timesteps >= low) & (timesteps <= high)).sum())
        return num_inside * guided + (len(timesteps) - num_inside) * plain

    def facts(self) -> dict[str, Any]:
        """Return how patches are sampled, as JSON values for reports and identities."""
        return self.sampling.facts() | {"precision": self.compute.precision}

    def edm_facts(self) -> dict[str, Any]:
        """Return how conditions are sampled."""
        return {f"EDM {name}": value for name, value in self.edm_sampling.facts().items()}

    def from_batch(self, batch: Batch, sample_numbers: Sequence[int]) -> np.ndarray:
        """Synthesise a patch for each condition of a batch of one magnification, uint8 (b, p, p, 3)."""
        return self.from_tokens(self.tokens(batch), sample_numbers, int(batch.rung[0]))

    def from_edm(self, rung: int, sample_numbers: Sequence[int]) -> np.ndarray:
        """Draw conditions for a rung from the embedding diffusion model and synthesise them, uint8 (b, p, p, 3).

        Raises:
            UserError: there is no embedding diffusion model.
        """
        return self.from_tokens(self.edm_tokens(rung, sample_numbers), sample_numbers, rung)

    def tokens(self, batch: Batch) -> Tensor:
        """Summarise the conditions of a batch to tokens `b n d`."""
        with self._inference():
            batch = batch.to(self.device)
            return self.model.tokens(batch.grids, batch.rung)

    def edm_tokens(self, rung: int, sample_numbers: Sequence[int], label: Any = None) -> Tensor:
        """Draw tokens `b n d` for a rung from the embedding diffusion model.

        Args:
            label: that they shall have, as a user names it; None: any.

        Raises:
            UserError: there is no embedding diffusion model, or it knows no such label.
        """
        if self.edm is None:
            raise UserError(
                "generated conditions need a trained embedding diffusion model: run `python src/train.py model=edm` "
                "(demo: model=edm_tiny) on this ZoomLDM run, or choose source=oracle"
            )
        with self._inference():
            numbers = self._numbers(sample_numbers)
            told = {} if label is None else {"label": self.edm.told(label, len(numbers)).to(self.device)}
            options = self.edm_sampling.options(self.seed, rung) | told
            return self.edm.sample(torch.full_like(numbers, rung), numbers, **options)

    def from_tokens(self, tokens: Tensor, sample_numbers: Sequence[int], rung: int) -> np.ndarray:
        """Synthesise a patch of a magnification for each row of tokens `b n d`, uint8 (b, p, p, 3)."""
        with self._inference():
            num, tokens, numbers = len(tokens), *self._padded(tokens, self._numbers(sample_numbers))
            latents = self.model.sample(tokens, numbers, **self.sampling.options(self.seed, rung))
            return to_images(self.autoencoder.decode(latents)[:num])

    def reconstruct(self, images: np.ndarray) -> np.ndarray:
        """Encode and decode uint8 patches (b, p, p, 3) without diffusion."""
        with self._inference():
            pixels = torch.from_numpy(images).to(self.device)
            return reconstruct(self.autoencoder, rearrange(pixels, "b h w c -> b c h w"))

    def _padded(self, tokens: Tensor, sample_numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Fill a smaller batch than one before by repeating its last sample: a compiled network has one shape."""
        self._padded_to = max(self._padded_to, len(tokens)) if self.compute.compile else 0
        num_more = max(0, self._padded_to - len(tokens))
        if not num_more:
            return tokens, sample_numbers
        return (
            torch.cat([tokens, repeat(tokens[-1:], "1 n d -> k n d", k=num_more)]),
            torch.cat([sample_numbers, repeat(sample_numbers[-1:], "1 -> k", k=num_more)]),
        )

    def _numbers(self, sample_numbers: Iterable[int]) -> Tensor:
        return torch.as_tensor(list(sample_numbers), dtype=torch.int64, device=self.device)

    @contextmanager
    def _inference(self) -> Iterator[None]:
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, self.compute.autocast):
            yield


def reconstruct(autoencoder: Decoder, images: Tensor) -> np.ndarray:
    """Encode and decode uint8 patches `b 3 p p`, on the autoencoder's device; uint8 (b, p, p, 3)."""
    return to_images(autoencoder.decode(autoencoder.encode(to_float(images))))


def to_images(pixels: Tensor) -> np.ndarray:
    """Map `b 3 p p` in about [-1, 1] to uint8 (b, p, p, 3), rounding and clipping."""
    levels = to_uint8(pixels)
    return rearrange(levels, "b c h w -> b h w c").cpu().numpy()


def images_of(batch: Batch) -> np.ndarray:
    """Return a batch's real patches as uint8 (b, p, p, 3)."""
    return np.ascontiguousarray(rearrange(batch.image, "b c h w -> b h w c").cpu().numpy())


def sample_number(rung: Rung, place: int) -> int:
    """Return the number that keys a patch's noise: its magnification and its place, so that rows share their noise."""
    return rung.index * 10**9 + int(place)
