"""An exported ZoomLDM in diffusers' terms: what a recipient loads with ``ZoomLDMPipeline.from_pretrained(folder)``.

`unet/` and `vqvae/` are diffusers' own classes; `summarizer/` and `edm/` are ours (parts.py), so this package must be
installed where the folder is loaded (docs/export.md). Patches are drawn as sample.py draws them, with the run's solver;
`scheduler/` beside them tells diffusers alone what the noise schedule is, and is not read here.
Legend: n images, k tokens, d token width, S grid side, D embedding width, p patch side (px), c h w latent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from einops import rearrange
from torch import Tensor

from zoomldm.config import Option
from zoomldm.data.pixels import to_uint8
from zoomldm.diffusion.prediction.base import Prediction
from zoomldm.diffusion.schedules.base import NoiseSchedule
from zoomldm.diffusion.solvers.base import Solver
from zoomldm.errors import UserError
from zoomldm.export.parts import Summarizer, TokenDiffusion, prediction_of
from zoomldm.ladder import Ladder, Rung
from zoomldm.model.zoomldm import ZoomLDM
from zoomldm.sampling.settings import scale_at

Grids = np.ndarray | Tensor


@dataclass
class ZoomLDMOutput(BaseOutput):
    """`images`: PIL images, or uint8 (n, p, p, 3) with output_type="np"."""

    images: list[Any] | np.ndarray


class ZoomLDMPipeline(DiffusionPipeline):
    """Draw histopathology patches at a magnification, from embeddings or from conditions it generates itself.

    Attributes of the configuration: `ladder` (patch side and magnifications), `encoder` (name, width, hash of the
    weights, input side and mpp of the network that must make the embeddings, and for ``stats`` its statistics),
    `sampling` (schedule, prediction and solver by their classes, which must be ours; steps and guidance when none are
    given: one scale or one a rung, and perhaps an interval).
    """

    model_cpu_offload_seq = "summarizer->edm->unet->vqvae"
    _optional_components = ["edm"]  # noqa: RUF012 - diffusers reads it so

    def __init__(
        self,
        unet: Any,
        vqvae: Any,
        summarizer: Summarizer,
        edm: TokenDiffusion | None = None,
        ladder: dict[str, Any] | None = None,
        encoder: dict[str, Any] | None = None,
        sampling: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(unet=unet, vqvae=vqvae, summarizer=summarizer, edm=edm)
        self.register_to_config(ladder=ladder or {}, encoder=encoder or {}, sampling=sampling or {})

    @property
    def ladder(self) -> Ladder:
        """The magnifications that `__call__` takes."""
        return Ladder(**self.config.ladder)

    @torch.no_grad()
    def __call__(
        self,
        magnification: float | str,
        embeddings: Grids | None = None,
        guidance_scale: float | None = None,
        num_inference_steps: int | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        num_images: int = 1,
        output_type: str = "pil",
    ) -> ZoomLDMOutput:
        """Draw patches.

        Args:
            magnification: one of the ladder's, such as 0.3125 or "0.3125x".
            embeddings: grids of the encoder's vectors, (S, S, D) or (n, S, S, D) with S the grid side of the
                magnification (1 at the highest, doubling below): one image each. None: the embedding diffusion model
                makes `num_images` conditions.
            guidance_scale, num_inference_steps: of the image model; None: as it was evaluated.
            generator: of the random numbers; a list gives each image its own.
            output_type: "pil" or "np".

        Raises:
            UserError: a magnification off the ladder, embeddings of another shape, or none where none can be made.
        """
        if output_type not in ("pil", "np"):
            raise UserError(f"output_type={output_type!r}: expected 'pil' or 'np'")
        rung = self.ladder.rung_of(magnification)
        steps = num_inference_steps or self.config.sampling["steps"]
        usual = scale_at(self.config.sampling["guidance_scale"], rung.index)
        scale = usual if guidance_scale is None else guidance_scale
        tokens = self._tokens(rung, embeddings, num_images, generator)
        latents = self._denoise(tokens, scale, steps, generator)
        decoded = self.vqvae.decode((latents / self.vqvae.config.scaling_factor).to(self.vqvae.dtype)).sample
        images = rearrange(to_uint8(decoded), "n c h w -> n h w c").cpu().numpy()
        return ZoomLDMOutput(images=images if output_type == "np" else _to_pil(images))

    def _tokens(
        self,
        rung: Rung,
        embeddings: Grids | None,
        num_images: int,
        generator: torch.Generator | list[torch.Generator] | None,
    ) -> Tensor:
        conditioner, device = self.summarizer.conditioner, self._execution_device
        if not conditioner.uses_grid:
            return self.summarizer(None, torch.full((num_images,), rung.index, device=device))
        if embeddings is not None:
            grids = self._grids(rung, embeddings).to(device, self.summarizer.dtype)
            return self.summarizer(grids, torch.full((len(grids),), rung.index, device=device))
        if self.edm is None:
            raise UserError(
                "this export holds no embedding diffusion model, so conditions cannot be generated: give embeddings="
                f" made with {self.config.encoder.get('name', 'its encoder')}, or export the run with its edm"
            )
        return self.edm(torch.full((num_images,), rung.index, device=device), generator)

    def _grids(self, rung: Rung, embeddings: Grids) -> Tensor:
        grids = torch.as_tensor(embeddings)
        grids = grids[None] if grids.ndim == 3 else grids
        expected = (rung.grid_side, rung.grid_side, self.summarizer.config.grid_dim)
        if grids.ndim != 4 or tuple(grids.shape[1:]) != expected:
            encoder = self.config.encoder.get("name", "encoder's")
            raise UserError(
                f"embeddings of shape {tuple(torch.as_tensor(embeddings).shape)} at {rung.label}: expected {expected} "
                f"or (n, {', '.join(map(str, expected))}), the {encoder} vectors of the patch's base tiles"
            )
        return grids

    def _denoise(
        self, tokens: Tensor, scale: float, steps: int, generator: torch.Generator | list[torch.Generator] | None
    ) -> Tensor:
        """Follow the solver from noise to unscaled latents `n c h w` under tokens `n k d`."""
        config, sampling = self.unet.config, self.config.sampling
        model = _AnyPrecision(
            self.summarizer.conditioner,
            self.unet,
            latent_shape=(config.out_channels, config.sample_size, config.sample_size),
            latent_scale=self.vqvae.config.scaling_factor,
            schedule=Option("schedule", sampling["schedule"]).make(NoiseSchedule).to(tokens.device),
            prediction=prediction_of(sampling.get("prediction"), "eps").make(Prediction),
            told_planes=config.in_channels - config.out_channels,
        )

        def noise(step: int) -> Tensor:
            shape = (len(tokens), *model.latent_shape)
            return randn_tensor(shape, generator=generator, device=tokens.device, dtype=torch.float32)

        with self.progress_bar(total=steps) as bar:

            def count(*_: object) -> None:
                bar.update()

            counted = self.unet.register_forward_hook(count)
            try:
                return model.denoise(
                    noise(0),
                    tokens,
                    solver=Option("solver", sampling["solver"]).make(Solver),
                    num_steps=steps,
                    guidance_scale=scale,
                    guidance_interval=sampling.get("guidance_interval"),
                    noise=noise,
                )
            finally:
                counted.remove()


class _AnyPrecision(ZoomLDM):
    """A ZoomLDM whose U-Net may have been brought to half precision (``pipeline.to(torch.float16)``)."""

    def predict(self, x: Tensor, t: Tensor, tokens: Tensor, told: Tensor | None = None) -> Tensor:
        return super().predict(x.to(self.unet.dtype), t, tokens.to(self.unet.dtype), told)


def _to_pil(images: np.ndarray) -> list[Any]:
    from PIL import Image

    return [Image.fromarray(image) for image in images]
