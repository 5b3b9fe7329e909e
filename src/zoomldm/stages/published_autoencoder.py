"""Published autoencoders, with a codebook and without one: built as a file has them, or started from."""

from __future__ import annotations

from pathlib import Path

from zoomldm.errors import ConfigError
from zoomldm.model.autoencoder import Autoencoder, VQAutoencoder
from zoomldm.model.kl import KLAutoencoder
from zoomldm.weights.layout_diffusers import DIFFUSERS_KL, DIFFUSERS_VQ
from zoomldm.weights.layout_vq import KL, VQ
from zoomldm.weights.load import LoadReport, Tensors, dims_in_file, load_kl, load_vq, read_part

KINDS = (VQ, DIFFUSERS_VQ, KL, DIFFUSERS_KL)
NORM_GROUPS = 32
"""Of latent diffusion's networks; the file does not tell."""


def autoencoder_of_file(path: str | Path, *, tensors: Tensors | None = None) -> tuple[Autoencoder, LoadReport]:
    """Build the autoencoder that a file holds, with a codebook or without one, of the sizes found in it.

    Raises:
        WeightsError: none in the file.
    """
    tensors = _read_autoencoder(path) if tensors is None else tensors
    dims = dims_in_file(path, KINDS, tensors)
    sizes = {
        "channels": dims["channels"],
        "mult": dims["channel_mult"],
        "num_res_blocks": dims["num_res_blocks"],
        "latent_channels": dims["latent_channels"],
        "attention": dims["middle_attention"],
        "norm_groups": NORM_GROUPS,
    }
    module = VQAutoencoder(**sizes, num_codes=dims["num_codes"]) if "num_codes" in dims else KLAutoencoder(**sizes)
    return module.eval(), init_autoencoder(module, path, tensors=tensors)


def init_autoencoder(module: Autoencoder, path: str | Path, *, tensors: Tensors | None = None) -> LoadReport:
    """Start an autoencoder from a published one of its kind.

    Raises:
        ConfigError: one of the other kind, or the model has parts that no published file holds. WeightsError: another
            file, or of other sizes.
    """
    tensors = _read_autoencoder(path) if tensors is None else tensors
    has_codebook = "num_codes" in dims_in_file(path, KINDS, tensors)
    if type(module) is not (VQAutoencoder if has_codebook else KLAutoencoder):
        kind, model = ("with", "autoencoder") if has_codebook else ("without", "autoencoder_kl")
        raise ConfigError(
            f"autoencoder.weights={path}: is an autoencoder {kind} a codebook, which does not go into a "
            f"{type(module).__name__}; take model={model}"
        )
    return load_vq(module.vq, path, tensors=tensors) if has_codebook else load_kl(module.kl, path, tensors=tensors)


def _read_autoencoder(path: str | Path) -> Tensors:
    return read_part(path, "vae" if (Path(path).expanduser() / "vae").is_dir() else "vqvae")
