"""`python src/weights.py` says what a file is, what it loads into, and what is missing or left over."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.helpers.originals import dit_file, official_file, small_unet, unet_file
from zoomldm.files import sha256_of
from zoomldm.weights.families import why_not_needed
from zoomldm.weights.inspect import inspect, report

ROOT = Path(__file__).parents[3]


def saved(content: dict, path: Path) -> Path:
    torch.save(content, path)
    return path


def test_official_checkpoint(tmp_path: Path) -> None:
    path = saved({"state_dict": official_file()}, tmp_path / "official.ckpt")
    text = report(path)
    assert sha256_of(path) in text
    for line in (
        "latent-diffusion U-Net",
        "model_ema.* (exponential moving average)",
        "VQ autoencoder",
        "transformer summarizer",
        "model_channels 32, channel_mult 1×2",
        "attention on levels 1",
        "unet.init=PATH",
        "num_codes 16",
        "grid_dim 24",
        "noise schedule",
        "perceptual and adversarial",
    ):
        assert line in text
    assert "NOT WHOLE" not in text
    assert "unknown" not in text


def test_missing_reshaped_and_unknown_are_listed(tmp_path: Path) -> None:
    tensors = unet_file()
    del tensors["model.diffusion_model.out.2.bias"]
    tensors["model.diffusion_model.out.0.bias"] = torch.zeros(7)
    tensors["something.else"] = torch.zeros(3)
    text = report(saved(tensors, tmp_path / "x.ckpt"))
    assert "NOT WHOLE: 1 of" in text
    assert "model.diffusion_model.out.2.bias (3,)" in text
    assert "model.diffusion_model.out.0.bias (7,), expected (32,)" in text
    assert "left over, unknown (1):\n  something.else (3,)" in text


def test_class_embedding_of_cin256(tmp_path: Path) -> None:
    tensors = unet_file() | {"cond_stage_model.embedding.weight": torch.zeros(1001, 64)}
    text = report(saved(tensors, tmp_path / "cin.ckpt"))
    assert "ImageNet class embedding" in text
    assert "num_classes 1001, width 64" in text


def test_condition_model_and_stranger(tmp_path: Path) -> None:
    found = inspect(saved(dit_file(), tmp_path / "dit.pt"))
    assert found.parts[0].variant.name.startswith("ema")
    assert "model=edm_dit" in found.parts[0].family.loads_into
    assert "not recognised" in report(saved({"conv1.weight": torch.zeros(2, 2)}, tmp_path / "resnet.pth"))


def test_diffusers_folder(tmp_path: Path) -> None:
    small_unet().save_pretrained(tmp_path)
    text = report(tmp_path, with_hash=False)
    assert "safetensors" in text
    assert "latent-diffusion U-Net" in text
    assert "sha256" not in text
    assert "_class_name UNet2DConditionModel" in text


def test_hub_encoder_is_recognised(tmp_path: Path) -> None:
    import timm

    with torch.device("meta"):
        vit = timm.create_model("vit_tiny_patch16_224", num_classes=0, init_values=1e-5, reg_tokens=4, depth=2)
    path = tmp_path / "model.safetensors"
    save_file({key: torch.zeros(value.shape) for key, value in vit.state_dict().items()}, path)
    text = report(path)
    assert "num_registers 4" in text
    assert "encoder=uni" in text
    assert "whole" in text


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("posterior_mean_coef1", "noise schedule"),
        ("sqrt_recipm1_alphas_cumprod", "noise schedule"),
        ("first_stage_model.loss.perceptual_loss.lin0.model.1.weight", "perceptual"),
        ("student.backbone.cls_token", "student"),
        ("model.diffusion_model.something.new", None),
        ("encoder.surprise", None),
    ],
)
def test_reasons(key: str, why: str | None) -> None:
    assert (why_not_needed(key) is None) if why is None else (why in why_not_needed(key))


def test_entry_answers_and_refuses(tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, "src/weights.py", *words], cwd=ROOT, capture_output=True, text=True)

    save_file(unet_file(), tmp_path / "unet.safetensors")
    done = run(str(tmp_path / "unet.safetensors"))
    assert done.returncode == 0
    assert "latent-diffusion U-Net" in done.stdout
    refused = run(str(tmp_path / "absent.ckpt"))
    assert refused.returncode == 2
    assert "no such file" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert run().returncode == 2


def test_checkpoint_of_a_run(tmp_path: Path) -> None:
    folder = tmp_path / "my-run" / "checkpoints" / "step-00000010"
    folder.mkdir(parents=True)
    unet = small_unet()
    tensors = {f"unet.{key}": value.contiguous() for key, value in unet.state_dict().items()}
    save_file(tensors | {"conditioner.null": torch.zeros(4, 64)}, folder / "model.safetensors")
    (folder / "checkpoint.json").write_text('{"kind": "zoomldm", "step": 10}')
    text = report(folder)
    assert "run my-run of this project" in text
    assert "kind zoomldm, step 10" in text
    assert "latent-diffusion U-Net" in text
    assert "unknown" not in text
