"""A published file is loaded whole, or refused with its name, its first keys and the shapes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.helpers.originals import (
    KL_DIMS,
    UNET_DIMS,
    VQ_DIMS,
    official_file,
    small_kl,
    small_unet,
    small_vq,
    tensors_of,
    unet_file,
)
from zoomldm.errors import WeightsError
from zoomldm.weights.layout_vq import kl_rows, vq_rows
from zoomldm.weights.load import init_unet, load_kl, load_unet, load_vq


def saved(tensors: dict, path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save({"state_dict": tensors}, path)
    return path


def test_average_is_preferred_and_raw_weights_serve(tmp_path: Path) -> None:
    tensors = official_file(ema=2.0)
    unet = small_unet()
    report = load_unet(unet, saved(tensors, tmp_path / "official.ckpt"))
    raw = tensors["model.diffusion_model.out.2.weight"]
    assert "exponential moving average" in report.variant
    assert torch.equal(unet.conv_out.weight, 2 * raw)
    without = {key: value for key, value in tensors.items() if not key.startswith("model_ema.")}
    assert "model.diffusion_model" in load_unet(unet, saved(without, tmp_path / "raw.safetensors")).variant
    assert torch.equal(unet.conv_out.weight, raw)


def test_incomplete_average_falls_back_to_the_raw_weights(tmp_path: Path) -> None:
    tensors = official_file()
    del tensors["model_ema.diffusion_modelout2bias"]
    assert "model.diffusion_model" in load_unet(small_unet(), saved(tensors, tmp_path / "x.ckpt")).variant


@pytest.mark.parametrize("prefix", ["", "diffusion_model."])
def test_unet_alone(tmp_path: Path, prefix: str) -> None:
    tensors = unet_file(prefix=prefix)
    unet = small_unet()
    load_unet(unet, saved(tensors, tmp_path / "x.ckpt"))
    assert torch.equal(unet.conv_in.weight, tensors[f"{prefix}input_blocks.0.0.weight"])


def test_diffusers_folder_round_trip(tmp_path: Path) -> None:
    unet, again = small_unet(), small_unet()
    unet.save_pretrained(tmp_path / "unet")
    load_unet(again, tmp_path / "unet")
    for key, value in unet.state_dict().items():
        assert torch.equal(value, again.state_dict()[key])
    load_unet(small_unet(), tmp_path)  # the folder of a whole pipeline
    load_unet(small_unet(), tmp_path / "unet" / "diffusion_pytorch_model.safetensors")


def test_diffusers_folder_with_other_heads_is_refused(tmp_path: Path) -> None:
    small_unet(num_heads=4).save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match=r"config\.json: attention_head_dim is 4, this model has 1"):
        load_unet(small_unet(), tmp_path)


def test_autoencoder_keeps_its_codebook(tmp_path: Path) -> None:
    tensors = tensors_of(vq_rows(VQ_DIMS), "first_stage_model.")
    module = small_vq()
    load_vq(module.vq, saved(tensors, tmp_path / "x.ckpt"))
    assert torch.equal(module.codebook, tensors["first_stage_model.quantize.embedding.weight"])
    taming = tensors_of(vq_rows(VQ_DIMS)) | {"loss.perceptual_loss.lin0.model.1.weight": torch.zeros(1)}
    load_vq(small_vq().vq, saved(taming, tmp_path / "taming.ckpt"))
    del tensors["first_stage_model.quantize.embedding.weight"]
    with pytest.raises(WeightsError, match=r"quantize\.embedding\.weight: the file has nothing"):
        load_vq(small_vq().vq, saved(tensors, tmp_path / "lost.ckpt"))


def test_autoencoder_folders_of_old_diffusers(tmp_path: Path) -> None:
    module, again = small_vq(), small_vq()
    old = (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn"))
    tensors = {}
    for key, value in module.vq.state_dict().items():
        for new, name in old:
            key = key.replace(f".{new}.", f".{name}.")
        tensors[key] = value
    assert any("proj_attn" in key for key in tensors)
    load_vq(again.vq, saved(tensors, tmp_path / "x.safetensors"))
    for key, value in module.vq.state_dict().items():
        assert torch.equal(value, again.vq.state_dict()[key])


def test_autoencoder_without_a_codebook(tmp_path: Path) -> None:
    tensors = tensors_of(kl_rows(KL_DIMS), "first_stage_model.") | {"first_stage_model.loss.logvar": torch.zeros(())}
    module = small_kl()
    report = load_kl(module.kl, saved(tensors, tmp_path / "kl.ckpt"))
    assert (report.num_loaded, report.variant) == (len(module.kl.state_dict()), "first_stage_model.*")
    assert torch.equal(module.kl.quant_conv.weight, tensors["first_stage_model.quant_conv.weight"])
    assert torch.equal(module.kl.encoder.conv_out.weight, tensors["first_stage_model.encoder.conv_out.weight"])
    again = small_kl()
    module.kl.save_pretrained(tmp_path / "vae")
    load_kl(again.kl, tmp_path)  # the folder of a whole pipeline
    for key, value in module.kl.state_dict().items():
        assert torch.equal(value, again.kl.state_dict()[key])
    with pytest.raises(WeightsError, match="latent_channels: 3 in the file, 4 in the model"):
        load_kl(small_kl(latent_channels=4).kl, tmp_path / "kl.ckpt")


@pytest.mark.parametrize(("rows", "load"), [(vq_rows, "vq"), (kl_rows, "kl")])
def test_attention_beside_the_middle_is_not_left_out(tmp_path: Path, rows, load: str) -> None:
    """VQ-f8, VQ-f16, KL-f16 and KL-f32 of latent diffusion have some, our networks do not."""
    tensors = tensors_of(rows(VQ_DIMS)) | {"encoder.down.1.attn.0.norm.weight": torch.ones(64)}
    path = saved(tensors, tmp_path / "x.ckpt")
    with pytest.raises(WeightsError, match=r"attending_levels: \(1,\) in the file, \(\) in the model"):
        load_vq(small_vq().vq, path) if load == "vq" else load_kl(small_kl().kl, path)


def test_init_names_what_differs_and_loads_the_rest(tmp_path: Path, caplog) -> None:
    path = saved(unet_file(), tmp_path / "cin.ckpt")
    unet = small_unet(context_dim=96)
    fresh = {key: value.clone() for key, value in unet.state_dict().items()}
    report = init_unet(unet, path)
    projections = {key for key in fresh if key.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))}
    assert set(report.initialised) == projections
    assert all(torch.equal(unet.state_dict()[key], fresh[key]) for key in projections)
    assert not torch.equal(unet.conv_in.weight, fresh["conv_in.weight"])
    assert "(64, 64), the model (64, 96)" in caplog.text
    with pytest.raises(WeightsError, match="context_dim: 64 in the file, 96 in the model"):
        load_unet(small_unet(context_dim=96), path)


def test_init_at_the_papers_context_width_loads_everything(tmp_path: Path) -> None:
    report = init_unet(small_unet(), saved(unet_file(), tmp_path / "cin.ckpt"))
    assert report.initialised == {}
    assert report.num_loaded == len(small_unet().state_dict())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_channels": 64}, "model_channels: 32 in the file, 64 in the model"),
        ({"channel_mult": (1, 3)}, r"channel_mult: \(1, 2\) in the file, \(1, 3\) in the model"),
        ({"num_res_blocks": 2}, "num_res_blocks: 1 in the file, 2 in the model"),
        ({"attention": (True, True)}, "attention: .* in the file"),
        ({"transformer_depth": 2}, "transformer_depth: 1 in the file, 2 in the model"),
    ],
)
@pytest.mark.parametrize("load", [load_unet, init_unet])
def test_right_family_of_other_sizes(tmp_path: Path, load, change: dict, said: str) -> None:
    unet = small_unet(**change)
    before = {key: value.clone() for key, value in unet.state_dict().items()}
    with pytest.raises(WeightsError, match=rf"(?s)cin\.ckpt: .*the file has .*{said}"):
        load(unet, saved(unet_file(), tmp_path / "cin.ckpt"))
    assert all(torch.equal(before[key], value) for key, value in unet.state_dict().items())


def test_a_larger_file_is_not_loaded_in_part(tmp_path: Path) -> None:
    path = saved(unet_file(UNET_DIMS | {"transformer_depth": 2}), tmp_path / "x.ckpt")
    with pytest.raises(WeightsError, match="transformer_depth: 2 in the file, 1 in the model"):
        load_unet(small_unet(), path)


def test_missing_keys_and_bad_values(tmp_path: Path) -> None:
    tensors = unet_file()
    del tensors["model.diffusion_model.middle_block.1.norm.bias"]
    with pytest.raises(
        WeightsError, match=r"(?s)1 tensors are missing.*middle_block\.1\.norm\.bias: the file has nothing"
    ):
        load_unet(small_unet(), saved(tensors, tmp_path / "x.ckpt"))
    tensors = unet_file()
    tensors["model.diffusion_model.out.0.bias"][3] = float("nan")
    with pytest.raises(WeightsError, match=r"out\.0\.bias holds values that are not finite"):
        load_unet(small_unet(), saved(tensors, tmp_path / "y.ckpt"))


def test_wrong_file_says_what_it_holds(tmp_path: Path) -> None:
    path = saved(tensors_of(vq_rows(VQ_DIMS)), tmp_path / "vq.ckpt")
    with pytest.raises(
        WeightsError, match=r"(?s)vq\.ckpt: holds no .*U-Net; its first keys are encoder\.conv_in\.weight"
    ):
        load_unet(small_unet(), path)


def test_config_of_another_class_is_refused(tmp_path: Path) -> None:
    unet = small_unet()
    unet.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"_class_name": "UNet2DModel"}))
    with pytest.raises(WeightsError, match="is a UNet2DModel"):
        load_unet(small_unet(), tmp_path)
