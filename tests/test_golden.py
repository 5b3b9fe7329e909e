"""The original implementations' outputs, from their own checkpoint layouts; each comparison is also seen to fail.

A control makes one deliberate mistake (a wrong number of heads, a wrong schedule, a wrong norm); the comparison that
the test makes must reject it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.golden.analytic import Vector, find_vectors
from tests.helpers.options import make_conditioner, make_prediction, make_schedule, make_solver
from zoomldm.diffusion.guidance import guided
from zoomldm.diffusion.solvers.ddim import DDIM
from zoomldm.encoder import ctranspath, hipt
from zoomldm.model.autoencoder import VQAutoencoder
from zoomldm.model.dit import DiT, sin_cos_positions
from zoomldm.model.kl import KLAutoencoder
from zoomldm.model.unet import build_unet
from zoomldm.stages.published_autoencoder import autoencoder_of_file
from zoomldm.weights.layout_published import DIT, SUMMARIZER, infer_dit, infer_summarizer
from zoomldm.weights.layout_unet import infer_unet
from zoomldm.weights.layout_vq import infer_vq
from zoomldm.weights.load import load_family, load_unet, load_vq

VECTORS = find_vectors()
Errors = dict[str, tuple[float, float]]  # output -> (largest difference, tolerance)


def shapes(vector: Vector) -> dict[str, tuple[int, ...]]:
    return {key: tuple(shape) for key, shape in vector.about["state_dict"].items()}


def save(vector: Vector, folder: Path, prefix: str = "", nest: str | None = None) -> Path:
    """Write the vector's weights as the original's authors publish them."""
    path = folder / "original.ckpt"
    state = {prefix + key: value for key, value in vector.state_dict.items()}
    torch.save({nest: state} if nest else state, path)
    return path


def set_eps(module: nn.Module, kind: type[nn.Module], eps: float) -> None:
    for layer in module.modules():
        if isinstance(layer, kind):
            layer.eps = eps


# --- U-Net ------------------------------------------------------------------------------------------------------------


def unet_errors(
    vector: Vector, folder: Path, *, heads: int = 1, eps: float | None = None, swapped: bool = False
) -> Errors:
    path = save(vector, folder, "model.diffusion_model.", "state_dict")
    unet = build_unet(sample_size=32, num_heads=heads, norm_groups=32, **infer_unet(shapes(vector))).eval()
    load_unet(unet, path)
    if eps:
        set_eps(unet, nn.GroupNorm, eps)
    if swapped:
        unet.time_proj.flip_sin_to_cos = False
    out = unet(vector.inputs["x"], vector.outputs["t"], encoder_hidden_states=vector.inputs["c"]).sample
    return {"out": (vector.error("out", out), 2e-5)}


# --- VQ-f4 ------------------------------------------------------------------------------------------------------------


def vq_errors(
    vector: Vector, folder: Path, *, codebook: bool = True, eps: float | None = None, swapped=False
) -> Errors:
    dims = infer_vq(shapes(vector))
    model = VQAutoencoder(
        channels=dims["channels"],
        mult=dims["channel_mult"],
        num_res_blocks=dims["num_res_blocks"],
        latent_channels=dims["latent_channels"],
        num_codes=dims["num_codes"],
        attention=dims["middle_attention"],
        norm_groups=32,
    ).eval()
    fresh = model.codebook.detach().clone()
    load_vq(model.vq, save(vector, folder, "first_stage_model.", "state_dict"))
    if not codebook:
        model.codebook.data.copy_(fresh)
    if eps:
        set_eps(model, nn.GroupNorm, eps)
    if swapped:
        block = model.vq.encoder.mid_block.resnets[0]
        block.norm1, block.norm2 = block.norm2, block.norm1
    latent = model.encode(vector.inputs["x"])
    sure = vector.outputs["margin"] > 1e-4
    wrong_codes = (model.codes(vector.outputs["latent"]) != vector.outputs["codes"])[sure].sum()
    return {
        "latent": (vector.error("latent", latent), 2e-5),
        "codes": (float(wrong_codes), 0.0),
        "out": (vector.error("out", model.decode(vector.outputs["quant"])), 2e-5),
    }


def test_an_autoencoder_without_a_codebook_has_the_same_networks(tmp_path: Path) -> None:
    """A KL file whose mean is the golden VQ's latent: the outputs are the golden ones, and the variance is apart."""
    vector = next(one for one in VECTORS.values() if one.family == "vq_f4")
    state = {key: value for key, value in vector.state_dict.items() if not key.startswith("quantize")}
    for key in ("encoder.conv_out.weight", "encoder.conv_out.bias", "quant_conv.bias"):
        state[key] = torch.cat((state[key], 2 + state[key]))
    state["quant_conv.weight"] = torch.block_diag(*2 * [state["quant_conv.weight"][:, :, 0, 0]])[:, :, None, None]
    torch.save({"state_dict": state}, tmp_path / "kl-f4.ckpt")
    model, _ = autoencoder_of_file(tmp_path / "kl-f4.ckpt")
    with deterministic():
        mean, deviation = model.distribution(vector.inputs["x"])
        out = model.decode(vector.outputs["quant"])
    assert isinstance(model, KLAutoencoder)
    assert vector.error("latent", mean) <= 2e-5
    assert vector.error("latent", deviation) > 0.1
    assert vector.error("out", out) <= 2e-5


# --- encoders ---------------------------------------------------------------------------------------------------------


def hipt_errors(
    vector: Vector, folder: Path, *, eps: float | None = None, heads: int | None = None, by_size=False, positions=True
) -> Errors:
    path = save(vector, folder, "backbone.", "teacher")
    network = hipt.build_hipt().eval()
    hipt.load_hipt(network, path)
    if eps:
        set_eps(network, nn.LayerNorm, eps)
    if heads:
        for block in network.blocks:
            block.attn.num_heads, block.attn.head_dim, block.attn.scale = heads, 384 // heads, (384 // heads) ** -0.5
    if by_size:
        old = vector.state_dict["pos_embed"]
        grid = old[:, 1:].reshape(1, 14, 14, -1).movedim(-1, 1)
        grid = functional.interpolate(grid, size=(16, 16), mode="bicubic").movedim(1, -1).flatten(1, 2)
        network.pos_embed.data.copy_(torch.cat([old[:, :1], grid], dim=1))
    if not positions:
        network.pos_embed.data.zero_()
    return {"out": (vector.error("out", network(vector.inputs["x"])), 1e-5)}


def ctranspath_errors(
    vector: Vector, folder: Path, *, eps: float | None = None, shifted: bool = True, merged_by_rows: bool = False
) -> Errors:
    network = ctranspath.build_ctranspath().eval()
    ctranspath.load_ctranspath(network, save(vector, folder, nest="model"))
    if eps:
        set_eps(network, nn.LayerNorm, eps)
    for stage in network.layers:
        if merged_by_rows and hasattr(stage.downsample, "reduction"):
            for name in ("weight", "bias"):
                _swap_neighbours(getattr(stage.downsample.norm, name), 0)
            _swap_neighbours(stage.downsample.reduction.weight, 1)
        for block in stage.blocks:
            if not shifted:
                block.attn_mask = None
    tokens = network.forward_features(vector.inputs["x"])
    out = network.forward_head(tokens)
    return {
        "out": (vector.error("out", out), 1e-5),
        "tokens": (vector.error("tokens", tokens.flatten(1, 2)), 1e-5),
    }


def _swap_neighbours(parameter: Tensor, axis: int) -> None:
    """Exchange the second and third of the four neighbours that patch merging joins along an axis."""
    a, b, c, d = parameter.data.chunk(4, dim=axis)
    parameter.data = torch.cat([a, c, b, d], dim=axis)


# --- sampler ----------------------------------------------------------------------------------------------------------


def ddim_errors(
    vector: Vector, _: Path, *, schedule="scaled_linear", moved: int = 0, last: float | None = None, scale: float = 1.75
) -> Errors:
    about, noise = vector.model, make_schedule(schedule)
    condition = torch.tensor(about["cond"]).reshape(-1, 1, 1, 1)

    def predict(x: Tensor, t: Tensor, c: Tensor) -> Tensor:
        return (1 - noise.alpha_bar(t, x)).sqrt() * x + 0.2 * c * torch.tanh(x)

    assert about["guidance_scale"] == 1.75
    eps = guided(predict, condition, torch.full_like(condition, about["uncond"]), scale)
    solver = _MovedDDIM(moved, eta=0.0, spacing="leading", last_alpha_bar=last)
    out = solver.solve(eps, vector.inputs["xT"], noise, num_steps=about["steps"], prediction=make_prediction())
    timesteps = solver.timesteps(about["steps"], noise.num_timesteps)
    visited = vector.outputs["timesteps"].flatten().sort().values
    return {
        "betas": (vector.error("betas", noise.betas), 1e-6),
        "alphas_cumprod": (vector.error("alphas_cumprod", noise.alphas_cumprod), 1e-6),
        "timesteps": (float((timesteps - visited).abs().max()), 0.0),
        "out": (vector.error("out", out), 2e-5),
    }


class _MovedDDIM(DDIM):
    def __init__(self, moved: int, **arguments) -> None:
        super().__init__(**arguments)
        self.moved = moved

    def timesteps(self, num_steps: int, num_timesteps: int) -> Tensor:
        return super().timesteps(num_steps, num_timesteps) + self.moved


# --- the later official model -----------------------------------------------------------------------------------------


def summarizer_errors(
    vector: Vector, folder: Path, *, heads: int = 8, eps: float | None = None, at_end=False, only: str | None = None
) -> Errors:
    dims = infer_summarizer(shapes(vector))
    module = make_conditioner(
        "vit",
        num_rungs=dims["num_rungs"],
        grid_dim=dims["grid_dim"],
        token_dim=dims["width"],
        depth=dims["depth"],
        mlp_dim=dims["mlp_dim"],
        heads=heads,
    ).eval()
    load_family(module, SUMMARIZER, dims, save(vector, folder, "cond_stage_model.", "state_dict"))
    if eps:
        set_eps(module.encoder, nn.LayerNorm, eps)
    if at_end:  # places filled from the first one on
        encode, pads = module.encoder.forward, 64
        module.encoder.forward = lambda x: encode(torch.cat([x[:, :1], x[:, 1:].roll(-pads // 2, 1)], 1))
    errors = {}
    for name, grid in vector.inputs.items():
        if only and name != only:
            continue
        rung = torch.tensor([int(name.removeprefix("x_mag"))])
        output = name.replace("x_", "out_")
        errors[output] = (vector.error(output, module.encode(grid.movedim(0, -1)[None], rung)), 2e-5)
    return errors


def dit_errors(
    vector: Vector,
    folder: Path,
    *,
    heads: int | None = None,
    schedule="squared_cosine",
    eps: float | None = None,
    swapped=False,
) -> Errors:
    dims, about, inputs = infer_dit(shapes(vector)), vector.model, vector.inputs
    names = ("num_rungs", "num_tokens", "token_dim", "width", "depth")
    sizes = {name: dims[name] for name in names}
    diffusion = {"schedule": make_schedule(schedule), "prediction": make_prediction("x0")}
    dit = DiT(heads=heads or about["num_heads"], **diffusion, **sizes).eval()
    load_family(dit, DIT, dims, save(vector, folder, nest="ema"))
    if eps:
        set_eps(dit, nn.LayerNorm, eps)
    t, rung = vector.outputs["t"], vector.outputs["mag"]
    out = dit(inputs["x"].mT, t, rung).mT
    table = sin_cos_positions(dims["num_tokens"], dims["width"])
    dit.pos_embed.copy_(torch.cat(table.chunk(2, 1)[::-1], 1) if swapped else table)
    official = make_solver("ddim_even")
    sampled = dit.denoise(inputs["z"].mT, rung, solver=official, num_steps=20, guidance_scale=1.0).mT
    return {
        "out": (vector.error("out", out, channel_axis=1), 1e-5),
        "out_sincos": (vector.error("out_sincos", dit(inputs["x"].mT, t, rung).mT, channel_axis=1), 1e-5),
        "ddim20_out": (vector.error("ddim20_out", sampled, channel_axis=1), 1e-4),
    }


CHECKS: dict[str, Callable[..., Errors]] = {
    "ldm_unet": unet_errors,
    "vq_f4": vq_errors,
    "hipt_vit256": hipt_errors,
    "ctranspath": ctranspath_errors,
    "ddim": ddim_errors,
    "zoomldm_cvpr_summarizer": summarizer_errors,
    "zoomldm_cdm_dit": dit_errors,
}

CONTROLS: dict[str, dict[str, dict]] = {
    "ldm_unet": {"8 heads": {"heads": 8}, "norm eps 1e-6": {"eps": 1e-6}, "sine before cosine": {"swapped": True}},
    "vq_f4": {"codebook lost": {"codebook": False}, "norms exchanged": {"swapped": True}, "norm eps": {"eps": 1e-5}},
    "hipt_vit256": {
        "12 heads": {"heads": 12},
        "norm eps 1e-5": {"eps": 1e-5},
        "positions resized by size": {"by_size": True},
        "no positions": {"positions": False},
    },
    "ctranspath": {
        "no shift mask": {"shifted": False},
        "norm eps 1e-6": {"eps": 1e-6},
        "merging row by row": {"merged_by_rows": True},
    },
    "ddim": {
        "linear schedule": {"schedule": "linear"},
        "timesteps from 0": {"moved": -1},
        "last alpha-bar 1": {"last": 1.0},
        "guidance 1.5": {"scale": 1.5},
    },
    "zoomldm_cvpr_summarizer": {
        "4 heads": {"heads": 4, "only": "x_mag1"},
        "norm eps 1e-5": {"eps": 1e-5, "only": "x_mag1"},
        "not in the centre": {"at_end": True, "only": "x_mag1"},
    },
    "zoomldm_cdm_dit": {
        "2 heads": {"heads": 2},
        "linear schedule": {"schedule": "linear"},
        "norm eps 1e-5": {"eps": 1e-5},
        "cosine before sine": {"swapped": True},
    },
}


@contextmanager
def deterministic():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_num_threads(threads)


@cache
def names() -> list[str]:
    return sorted(VECTORS)


def test_golden_vectors_are_found() -> None:
    assert {vector.family for vector in VECTORS.values()} >= set(CHECKS)


@pytest.mark.parametrize("name", names())
def test_golden(name: str, tmp_path: Path) -> None:
    vector = VECTORS[name]
    with deterministic():
        errors = CHECKS[vector.family](vector, tmp_path)
    assert all(error <= tolerance for error, tolerance in errors.values()), errors


@pytest.mark.parametrize(
    ("name", "mistake"), [(name, mistake) for name in names() for mistake in CONTROLS[VECTORS[name].family]]
)
def test_golden_control_fails(name: str, mistake: str, tmp_path: Path) -> None:
    vector = VECTORS[name]
    with deterministic():
        errors = CHECKS[vector.family](vector, tmp_path, **CONTROLS[vector.family][mistake])
    assert any(error > tolerance for error, tolerance in errors.values()), errors
