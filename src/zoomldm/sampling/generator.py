"""From conditions to patches: what evaluation and `sample.py` share.

Legend: b batch, p patch side (px), n tokens, d token width, c h w latent.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from zoomldm.data.batch import Batch
from zoomldm.diffusion.solvers.base import Solver
from zoomldm.diffusion.solvers.ddim import DDIM
from zoomldm.errors import UserError


class LatentModel(Protocol):
    """What is asked of ZoomLDM; ``columns`` names ``grid`` where the tokens depend on the patch."""

    columns: tuple[str, ...]

    def tokens(self, grids: Sequence[Any] | None, rung: Tensor) -> Tensor:
        """Summarise grids to tokens `b n d`."""

    def sample(
        self,
        tokens: Tensor,
        sample_numbers: Tensor,
        *,
        seed: int,
        solver: Solver,
        num_steps: int,
        guidance_scale: float,
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
    ) -> Tensor:
        """Draw tokens `b n d` for rungs (b,)."""


class Decoder(Protocol):
    """What is asked of the autoencoder."""

    def encode(self, images: Tensor) -> Tensor:
        """Encode images in [-1, 1]."""

    def decode(self, latents: Tensor) -> Tensor:
        """Decode unscaled latents to images in about [-1, 1]."""


class PatchGenerator:
    """Turn conditions into uint8 patches by a solver, guidance and the autoencoder.

    The same seed and sample numbers give the same patches; batches of another size change no more than rounding does.
    """

    def __init__(
        self,
        model: LatentModel,
        autoencoder: Decoder,
        *,
        edm: TokenModel | None = None,
        solver: Solver | None = None,
        edm_solver: Solver | None = None,
        steps: int = 50,
        guidance_scale: float = 1.75,
        edm_steps: int | None = None,
        edm_guidance_scale: float | None = None,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        self.model, self.autoencoder, self.edm = model, autoencoder, edm
        self.solver, self.edm_solver = solver or DDIM(), edm_solver or DDIM()
        self.steps, self.guidance_scale, self.seed = steps, guidance_scale, seed
        self.edm_steps = steps if edm_steps is None else edm_steps
        self.edm_guidance_scale = guidance_scale if edm_guidance_scale is None else edm_guidance_scale
        self.device = torch.device(device)
        for part in (model, autoencoder, edm):
            if isinstance(part, torch.nn.Module):
                part.to(self.device).eval()

    @property
    def uses_grid(self) -> bool:
        """Tell whether the condition of a patch is its own, and not that of its magnification alone."""
        return "grid" in self.model.columns

    @torch.inference_mode()
    def from_batch(self, batch: Batch, sample_numbers: Sequence[int]) -> np.ndarray:
        """Synthesise a patch for each condition of a batch, uint8 (b, p, p, 3)."""
        batch = batch.to(self.device)
        return self.from_tokens(self.model.tokens(batch.grids, batch.rung), sample_numbers)

    @torch.inference_mode()
    def from_edm(self, rung: int, sample_numbers: Sequence[int]) -> np.ndarray:
        """Draw conditions for a rung from the embedding diffusion model and synthesise them, uint8 (b, p, p, 3).

        Raises:
            UserError: there is no embedding diffusion model.
        """
        if self.edm is None:
            raise UserError(
                "generated conditions need a trained embedding diffusion model: run `python src/train.py model=edm` "
                "(demo: model=edm_tiny) on this ZoomLDM run, or choose conditions=oracle"
            )
        numbers = self._numbers(sample_numbers)
        rungs = torch.full((len(numbers),), rung, dtype=torch.int64, device=self.device)
        tokens = self.edm.sample(
            rungs,
            numbers,
            seed=self.seed,
            solver=self.edm_solver,
            num_steps=self.edm_steps,
            guidance_scale=self.edm_guidance_scale,
        )
        return self.from_tokens(tokens, sample_numbers)

    @torch.inference_mode()
    def from_tokens(self, tokens: Tensor, sample_numbers: Sequence[int]) -> np.ndarray:
        """Synthesise a patch for each row of tokens `b n d`, uint8 (b, p, p, 3)."""
        latents = self.model.sample(
            tokens,
            self._numbers(sample_numbers),
            seed=self.seed,
            solver=self.solver,
            num_steps=self.steps,
            guidance_scale=self.guidance_scale,
        )
        return to_images(self.autoencoder.decode(latents))

    @torch.inference_mode()
    def reconstruct(self, images: np.ndarray) -> np.ndarray:
        """Encode and decode uint8 patches (b, p, p, 3) without diffusion."""
        pixels = torch.from_numpy(np.ascontiguousarray(images)).to(self.device).permute(0, 3, 1, 2)
        return to_images(self.autoencoder.decode(self.autoencoder.encode(pixels.float() / 127.5 - 1)))

    def _numbers(self, sample_numbers: Iterable[int]) -> Tensor:
        return torch.as_tensor(list(sample_numbers), dtype=torch.int64, device=self.device)


def to_images(pixels: Tensor) -> np.ndarray:
    """Map `b 3 p p` in about [-1, 1] to uint8 (b, p, p, 3), rounding and clipping."""
    return ((pixels.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
