"""Layouts list exactly the keys and shapes of the originals, and exactly those of the modules they are loaded into."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import torch

from tests.helpers.originals import KL_DIMS, UNET_DIMS, VQ_DIMS, small_kl, small_unet, small_vq
from zoomldm.commands.cost import paper_unet
from zoomldm.encoder.ctranspath import build_ctranspath
from zoomldm.encoder.hipt import build_hipt
from zoomldm.weights.inspect import find_parts
from zoomldm.weights.layout import find_part, numel, prefixed
from zoomldm.weights.layout_diffusers import DIFFUSERS_KL, DIFFUSERS_UNET, DIFFUSERS_VQ
from zoomldm.weights.layout_encoders import CTRANSPATH, CTRANSPATH_DIMS, HIPT, HIPT_DIMS
from zoomldm.weights.layout_published import DIT, SUMMARIZER
from zoomldm.weights.layout_unet import UNET, ema_key, infer_unet, unet_rows
from zoomldm.weights.layout_vq import KL, VQ, kl_rows, vq_rows
from zoomldm.weights.load import kl_dims, unet_dims, vq_dims

GOLDEN = Path(__file__).parents[2] / "golden"
FAMILIES = {
    "ldm_unet_32": UNET,
    "vq_f4_32": VQ,
    "hipt_vit256": HIPT,
    "ctranspath": CTRANSPATH,
    "zoomldm_cvpr_summarizer_thin": SUMMARIZER,
    "zoomldm_cdm_dit_small_thin": DIT,
}


def golden_shapes(name: str) -> dict[str, tuple[int, ...]]:
    about = json.loads((GOLDEN / f"{name}.json").read_text())
    return {key: tuple(shape) for key, shape in about["state_dict"].items()}


def official_shapes() -> dict[str, tuple[int, ...]]:
    keys = json.loads(gzip.decompress((GOLDEN / "zoomldm_official_ckpt.keys.json.gz").read_bytes()))["state_dict"]
    return {key: tuple(entry["shape"]) for key, entry in keys.items()}


def shapes_of(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}


@pytest.mark.parametrize("name", FAMILIES)
def test_layout_is_the_originals_key_list(name: str) -> None:
    shapes, family = golden_shapes(name), FAMILIES[name]
    part = find_part(family, prefixed(""), shapes)
    computed = {key for key in shapes if key.endswith(family.ignored)} if family.ignored else set()
    assert {row.source: row.shape for row in part.rows} == {k: v for k, v in shapes.items() if k not in computed}


def test_unet_layout_keeps_the_originals_order() -> None:
    shapes = golden_shapes("ldm_unet_32")
    assert [row.source for row in unet_rows(infer_unet(shapes))] == list(shapes)


def test_full_official_checkpoint_has_no_unexplained_key() -> None:
    from zoomldm.weights.families import why_not_needed

    shapes = official_shapes()
    parts = find_parts(shapes)
    assert [part.family.name for part in parts] == [UNET.name, UNET.name, VQ.name, SUMMARIZER.name]
    assert all(not part.missing and not part.reshaped for part in parts)
    left = set(shapes).difference(*(part.keys for part in parts))
    assert len(left) == 14
    assert all(why_not_needed(key) for key in left)


def test_ema_keys_are_unique() -> None:
    with torch.device("meta"):
        rows = unet_rows(unet_dims(paper_unet()))
    assert len({ema_key(row.source) for row in rows}) == len(rows) == 688


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"channel_mult": (1, 2, 2), "attention": (True, False, True), "num_res_blocks": 2},
        {"transformer_depth": 2, "context_dim": 96, "in_channels": 4, "out_channels": 4},
    ],
)
def test_unet_rows_cover_the_module(change: dict) -> None:
    dims = UNET_DIMS | change
    with torch.device("meta"):
        unet = small_unet(sample_size=16, **change)
    rows = unet_rows(dims)
    assert {row.target: row.target_shape for row in rows} == shapes_of(unet)
    assert unet_dims(unet) == dims
    assert infer_unet({row.source: row.shape for row in rows}) == dims
    assert DIFFUSERS_UNET.infer(shapes_of(unet)) == dims


@pytest.mark.parametrize("change", [{}, {"channel_mult": (1, 2, 4), "num_res_blocks": 2}, {"middle_attention": False}])
def test_vq_rows_cover_the_module(change: dict) -> None:
    dims = VQ_DIMS | change
    with torch.device("meta"):
        module = small_vq(**change)
    rows = vq_rows(dims)
    assert {row.target: row.target_shape for row in rows} == shapes_of(module.vq)
    assert vq_dims(module.vq) == dims
    assert VQ.infer({row.source: row.shape for row in rows}) == dims
    assert DIFFUSERS_VQ.infer(shapes_of(module.vq)) == dims


@pytest.mark.parametrize(
    "change",
    [{}, {"channel_mult": (1, 2, 4, 4), "num_res_blocks": 2, "latent_channels": 4}, {"middle_attention": False}],
)
def test_kl_rows_cover_the_module(change: dict) -> None:
    dims = KL_DIMS | change
    with torch.device("meta"):
        module = small_kl(**change)
    rows = kl_rows(dims)
    assert {row.target: row.target_shape for row in rows} == shapes_of(module.kl)
    assert kl_dims(module.kl) == dims
    original = {row.source: row.shape for row in rows}
    assert KL.infer(original) == dims
    assert DIFFUSERS_KL.infer(shapes_of(module.kl)) == dims
    assert VQ.infer(original) is None
    assert DIFFUSERS_VQ.infer(shapes_of(module.kl)) is None
    assert [part.family.name for part in find_parts(original)] == [KL.name]


def test_kl_f8_has_the_tensors_of_the_autoencoder_of_stable_diffusion() -> None:
    rows = kl_rows(KL_DIMS | {"channels": 128, "channel_mult": (1, 2, 4, 4), "num_res_blocks": 2, "latent_channels": 4})
    assert (len(rows), sum(numel(row.shape) for row in rows)) == (248, 83_653_863)


def test_encoder_rows_cover_the_modules() -> None:
    with torch.device("meta"):
        hipt, ctranspath = build_hipt(224), build_ctranspath()
    assert {row.target: row.shape for row in HIPT.rows(HIPT_DIMS)} == shapes_of(hipt)
    assert {row.target: row.shape for row in CTRANSPATH.rows(CTRANSPATH_DIMS)} == shapes_of(ctranspath)
