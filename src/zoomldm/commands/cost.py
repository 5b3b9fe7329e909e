"""What every model costs at the paper's size: parameters, and multiply-adds of one forward pass.

Counted on torch's meta device, so nothing is allocated and nothing computed. A multiply-add is half of what torch's
counter calls two operations: convolutions, linear layers and the two products of attention; norms and activations are
left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from zoomldm.cond.base import Conditioner, facts_of_model
from zoomldm.config import CONF, Option, option_of
from zoomldm.stages.autoencoder import autoencoder_of
from zoomldm.stages.edm import token_model_of
from zoomldm.stages.zoomldm import unet_of

GRID_DIM = 384
NUM_RUNGS = 8
NUM_TOKENS = 64


@dataclass(frozen=True)
class Cost:
    """`parameters` and `macs` (multiply-adds of one forward pass, one sample) of a model; `what` says of which pass."""

    name: str
    what: str
    parameters: int
    macs: int


def measure(
    name: str, what: str, module: nn.Module, forward: Callable[[], object], *, parameters: int | None = None
) -> Cost:
    """Count a module's parameters, unless given, and the multiply-adds of a call, which must run on meta tensors."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        forward()
    parameters = sum(p.numel() for p in module.parameters()) if parameters is None else parameters
    return Cost(name, what, parameters, counter.get_total_flops() // 2)


def sizes(name: str) -> dict[str, Any]:
    """Return what ``conf/model/NAME.yaml`` says of its model."""
    content = yaml.safe_load((CONF / "model" / f"{name}.yaml").read_text(encoding="utf-8"))
    return content["model"] | {"unet": content.get("unet")}


def paper_unet() -> nn.Module:
    """Build the paper's U-Net on the current device."""
    model = sizes("zoomldm")
    shape = (model["latent_channels"], model["latent_px"], model["latent_px"])
    return unet_of(model["unet"], latent_shape=shape, context_dim=model["tokens"]["dim"])


def unet_cost() -> Cost:
    """The U-Net on a latent of 3x64x64 and 64 tokens of 512."""
    with torch.device("meta"):
        unet = paper_unet().eval()
        x, t, tokens = torch.empty(1, 3, 64, 64), torch.zeros(1), torch.empty(1, NUM_TOKENS, 512)
        return measure("U-Net", "3×64×64 latent, 64 tokens", unet, lambda: unet(x, t, encoder_hidden_states=tokens))


def autoencoder_costs() -> list[Cost]:
    """VQ-f4, encoding and decoding a patch of 256 px (without the search for codes)."""
    with torch.device("meta"):
        said = sizes("autoencoder")
        model = autoencoder_of(Option("model.network", said["network"]), said).eval()
        images, latents = torch.empty(1, 3, 256, 256), torch.empty(1, 3, 64, 64)
        return [
            measure("VQ-f4", "encode 256 px", model, lambda: model.encode(images)),
            measure("VQ-f4", "decode to 256 px", model, lambda: model.decode_as_given(latents)),
        ]


def encoder_costs() -> list[Cost]:
    """HIPT at 256 px and CTransPath at 224 px, one tile."""
    from zoomldm.encoder.ctranspath import build_ctranspath
    from zoomldm.encoder.hipt import build_hipt

    with torch.device("meta"):
        published = sum(p.numel() for p in build_hipt(224).parameters())  # before its positions are resized to 256 px
        hipt, ctranspath = build_hipt().eval(), build_ctranspath().eval()
        tile = torch.empty(1, 3, 256, 256)
        return [
            measure("HIPT", "one tile of 256 px", hipt, lambda: hipt(tile), parameters=published),
            measure("CTransPath", "one tile of 224 px", ctranspath, lambda: ctranspath(tile[..., 16:-16, 16:-16])),
        ]


def summarizer(name: str, *, grid_dim: int, **changed: Any) -> Conditioner:
    """Build a conditioner of the paper's tokens on the current device; changed: values of its option."""
    facts = facts_of_model(sizes("zoomldm")["tokens"], num_rungs=NUM_RUNGS, grid_dim=grid_dim)
    return option_of("cond", name, **changed).make(Conditioner, **facts)


def summarizer_cost(grid_side: int = 128, **changed: Any) -> Cost:
    """The FiLM summarizer on one grid of HIPT embeddings; 128 is the largest."""
    with torch.device("meta"):
        module = summarizer("film", grid_dim=GRID_DIM, **changed).eval()
        # the batch's bookkeeping (order, rungs) needs no counting and is done beside the network
        grid, embedding = torch.empty(1, grid_side, grid_side, GRID_DIM), torch.empty(1, module.embedding_dim)

        def forward() -> Tensor:
            x = module.resize(module.project(grid))
            for block in module.blocks:
                x = block(x, embedding)
            return module.out(x.flatten(2).transpose(1, 2))

        what = ", ".join([f"{grid_side}×{grid_side} grid of {GRID_DIM}", *(f"{k}={v}" for k, v in changed.items())])
        return measure("summarizer (film)", what, module, forward)


def vit_summarizer_cost() -> Cost:
    """The later transformer summarizer on 8x8 places of 1024."""
    with torch.device("meta"):
        vit = summarizer("vit", grid_dim=1024).eval()
        places, rung = torch.empty(1, 8, 8, 1024), torch.zeros(1, dtype=torch.int64)
        return measure("summarizer (vit)", "8×8 grid of 1024", vit, lambda: vit.encode(places, rung))


def token_model_costs() -> list[Cost]:
    """The embedding diffusion models, one step: ours on 64 tokens, the later DiT on 65."""
    facts = {"schedule": option_of("schedule", "linear"), "prediction": option_of("prediction", "x0")}
    facts |= {"num_rungs": NUM_RUNGS, "token_dim": 512}
    with torch.device("meta"):
        edm, dit = (
            token_model_of(Option("model.network", sizes(name)["network"]), sizes("edm"), num_tokens=tokens, **facts)
            for name, tokens in (("edm", NUM_TOKENS), ("edm_dit", NUM_TOKENS + 1))
        )
        edm, dit = edm.train(), dit.eval()
        t, rung = torch.zeros(1), torch.zeros(1, dtype=torch.int64)
        x, y = torch.empty(1, NUM_TOKENS, 512), torch.empty(1, NUM_TOKENS + 1, 512)
        return [
            measure("EDM (transformer)", "64 tokens of 512", edm, lambda: edm.predict(x, t, rung)),
            measure("EDM (dit)", "65 tokens of 512", dit, lambda: dit(y, t, rung)),
        ]


def all_costs() -> list[Cost]:
    """Every model at the paper's size."""
    return [
        unet_cost(),
        *autoencoder_costs(),
        summarizer_cost(),
        summarizer_cost(projection=GRID_DIM),
        vit_summarizer_cost(),
        *token_model_costs(),
        *encoder_costs(),
    ]


def summary() -> str:
    """Write the costs as a table."""
    lines = [f"{'model':20} {'forward pass':38} {'parameters (M)':>15} {'GMACs':>9}"]
    lines += [f"{c.name:20} {c.what:38} {c.parameters / 1e6:15.2f} {c.macs / 1e9:9.2f}" for c in all_costs()]
    for projection in (None, GRID_DIM):
        kept = [summarizer_memory(batch_size=1, grid_side=s, projection=projection).activation_bytes for s in (128, 1)]
        largest, smallest = (f"{number / 2**20:.1f} MiB" for number in kept)
        lines.append(
            f"summarizer (film), projection={projection or 'null'}: keeps {largest} of a 128×128 grid, {smallest} of a "
            "1×1 grid for the backward pass in bf16"
        )
    return "\n".join(lines)


@dataclass(frozen=True)
class Memory:
    """Bytes of a batch: `input_bytes` of its grids in float16, `activation_bytes` kept for the backward pass."""

    input_bytes: int
    activation_bytes: int


def summarizer_memory(*, batch_size: int, grid_side: int = 128, **changed: Any) -> Memory:
    """Count what the FiLM summarizer keeps for the backward pass under bfloat16 autocast, each tensor once."""
    with torch.device("meta"):
        module = summarizer("film", grid_dim=GRID_DIM, **changed)
        grids = torch.empty(batch_size, grid_side, grid_side, GRID_DIM, dtype=torch.float16)
        embedding = torch.empty(batch_size, module.embedding_dim)
        parameters = {id(p) for p in module.parameters()}
        kept: dict[int, Tensor] = {}

        def keep(tensor: Tensor) -> Tensor:
            if id(tensor) not in parameters and tensor is not grids:
                kept[id(tensor)] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x), torch.autocast("cpu", torch.bfloat16):
            x = module.resize(module.project(grids))
            for block in module.blocks:
                x = block(x, embedding)
            module.out(x)
    return Memory(grids.nbytes, sum(tensor.nbytes for tensor in kept.values()))
