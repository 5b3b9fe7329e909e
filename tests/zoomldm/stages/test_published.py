"""Published models as a whole: fine-tuning starts from them, and an official checkpoint samples."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers.options import make_conditioner, make_prediction, make_schedule, make_solver
from tests.helpers.originals import (
    KL_DIMS,
    SUMMARIZER_DIMS,
    VQ_DIMS,
    dit_file,
    official_file,
    small_unet,
    tensors_of,
    unet_file,
)
from tests.helpers.toy_runs import compose
from zoomldm.commands.check import stage_in
from zoomldm.cond.vit import ViTConditioner
from zoomldm.data.batch import GridGroup
from zoomldm.errors import ConfigError, WeightsError
from zoomldm.model.autoencoder import VQAutoencoder
from zoomldm.model.kl import KLAutoencoder
from zoomldm.model.zoomldm import ZoomLDM
from zoomldm.stages.loaded import load_autoencoder
from zoomldm.stages.packed import shipped
from zoomldm.stages.published import dit_of_file, init_zoomldm, load_published
from zoomldm.weights.layout_vq import kl_rows, vq_rows


def saved(content: dict, path: Path) -> Path:
    torch.save(content, path)
    return path


def model_of(conditioner) -> ZoomLDM:
    unet = small_unet(context_dim=conditioner.token_dim)
    return ZoomLDM(
        conditioner,
        unet,
        latent_shape=(3, 8, 8),
        latent_scale=1.0,
        schedule=make_schedule(),
        prediction=make_prediction(),
    )


def small_vit(**change) -> ViTConditioner:
    sizes = {"num_rungs": 8, "grid_dim": 24, "token_dim": 64, "depth": 2, "heads": 8, "mlp_dim": 96}
    return make_conditioner("vit", **(sizes | change))


def test_official_checkpoint_samples_with_given_and_generated_conditions(tmp_path: Path) -> None:
    published = load_published(
        saved({"state_dict": official_file()}, tmp_path / "weights.ckpt"),
        edm_path=saved(dit_file(), tmp_path / "cdm.pt"),
        latent_px=8,
    )
    model, rung = published.model, torch.tensor([0, 3])
    assert len(published.reports) == 4
    assert not model.training
    assert model.conditioner.num_tokens == SUMMARIZER_DIMS["num_tokens"]
    assert torch.equal(model.unet.conv_out.weight, official_file()["model_ema.diffusion_modelout2weight"])
    grids = [
        GridGroup(torch.tensor([0]), torch.randn(1, 1, 1, 24)),
        GridGroup(torch.tensor([1]), torch.randn(1, 8, 8, 24)),
    ]
    numbers = torch.arange(2)
    given = model.tokens(grids, rung)
    options = {"seed": 0, "solver": make_solver(), "num_steps": 3, "guidance_scale": 1.0}
    generated = published.edm.sample(rung, numbers, **options)
    for tokens in (given, generated):
        latents = model.sample(tokens, numbers, **options)
        images = published.autoencoder.decode(latents)
        assert images.shape == (2, 3, 16, 16)
        assert torch.isfinite(images).all()


def test_condition_model_of_another_release_is_refused(tmp_path: Path) -> None:
    other = dit_file()
    other["ema"] |= {"pos_embed": torch.zeros(1, 17, 384)}
    path = saved({"state_dict": official_file()}, tmp_path / "weights.ckpt")
    with pytest.raises(WeightsError, match=r"makes 17×64 tokens, the summarizer of .* 65×64"):
        load_published(path, edm_path=saved(other, tmp_path / "cdm.pt"), latent_px=8)


def test_missing_part_is_named(tmp_path: Path) -> None:
    tensors = {key: value for key, value in official_file().items() if not key.startswith("first_stage_model.")}
    with pytest.raises(WeightsError, match="holds no VQ autoencoder"):
        load_published(saved(tensors, tmp_path / "x.ckpt"), latent_px=8)


def test_condition_model_prefers_its_average(tmp_path: Path) -> None:
    dit, report = dit_of_file(saved(dit_file(), tmp_path / "cdm.pt"))
    assert report.variant.startswith("ema")
    assert torch.equal(dit.x_embedder.weight, dit_file()["ema"]["x_embedder.weight"])
    flat = saved(dit_file()["ema"], tmp_path / "flat.pt")
    assert torch.equal(dit_of_file(flat)[0].x_embedder.weight, dit.x_embedder.weight)


def test_init_takes_unet_and_summarizer_of_an_official_file(tmp_path: Path) -> None:
    model = model_of(small_vit())
    reports = init_zoomldm(model, saved({"state_dict": official_file()}, tmp_path / "x.ckpt"))
    assert [report.initialised for report in reports] == [{}, {}]
    assert torch.equal(model.conditioner.pad_token, official_file()["cond_stage_model.pad_token"])
    assert torch.equal(model.conditioner.null_tokens(1), torch.zeros(1, 65, 64))


def test_init_of_a_summarizer_for_other_grids_is_refused(tmp_path: Path) -> None:
    path = saved({"state_dict": official_file()}, tmp_path / "x.ckpt")
    with pytest.raises(WeightsError, match="grid_dim: 24 in the file, 48 in the model"):
        init_zoomldm(model_of(small_vit(grid_dim=48)), path)


def test_cin256_starts_unet_and_null_tokens(tmp_path: Path) -> None:
    classes = torch.randn(1001, 64)
    path = saved(unet_file() | {"cond_stage_model.embedding.weight": classes}, tmp_path / "cin.ckpt")
    same, wider = (model_of(make_conditioner("mag", num_rungs=8, resolution=64, token_dim=width)) for width in (64, 96))
    unet_report, null_report = init_zoomldm(same, path)
    assert unet_report.initialised == null_report.initialised == {}
    assert torch.equal(same.conditioner.null.data, classes[-1].expand(same.conditioner.num_tokens, 64))
    before = wider.conditioner.null.detach().clone()
    unet_report, null_report = init_zoomldm(wider, path)
    assert len(unet_report.initialised) == 2 * 4
    assert "width 64, the tokens 96" in null_report.initialised["null"]
    assert torch.equal(wider.conditioner.null, before)


def autoencoder_file(rows: list, path: Path) -> Path:
    return saved({"state_dict": tensors_of(rows, "first_stage_model.")}, path)


def test_a_published_autoencoder_is_used_as_what_it_is(tmp_path: Path) -> None:
    kl = load_autoencoder(tmp_path, run=None, weights=autoencoder_file(kl_rows(KL_DIMS), tmp_path / "kl-f4.ckpt"))
    vq = load_autoencoder(tmp_path, run=None, weights=autoencoder_file(vq_rows(VQ_DIMS), tmp_path / "vq-f4.ckpt"))
    assert (type(kl.module), type(vq.module)) == (KLAutoencoder, VQAutoencoder)
    assert (kl.is_original, vq.is_original) == (False, True)  # scaled by 1 / std, and by 1
    assert kl.module.latent_shape(32) == (3, 16, 16)


@pytest.mark.parametrize(
    ("name", "rows", "said"),
    [
        ("autoencoder_kl", vq_rows, "with a codebook, which does not go into a KLAutoencoder; take model=autoencoder$"),
        ("autoencoder", kl_rows, "without a codebook, which does not go into a VQ.*; take model=autoencoder_kl$"),
        ("autoencoder_tiny", kl_rows, "does not go into a LinearStartKL; take model=autoencoder_kl$"),
        ("autoencoder_vq_tiny", vq_rows, "does not go into a LinearStartAutoencoder; take model=autoencoder$"),
        ("autoencoder_kl", kl_rows, None),
        ("autoencoder", vq_rows, None),
    ],
)
def test_an_autoencoders_training_starts_from_a_published_one_of_its_kind(tmp_path: Path, name, rows, said) -> None:
    path = autoencoder_file(rows(VQ_DIMS), tmp_path / "published.ckpt")
    sizes = ["model.channels=32", "model.channel_mult=[1,2]", "model.num_res_blocks=1", "model.middle_attention=true"]
    sizes += ["model.latent_channels=3", "model.norm_groups=32", "model.loss.adversarial=null"]
    sizes += [] if "kl" in name else ["model.num_codes=16"]
    stage = stage_in(compose("train", tmp_path, f"model={name}", f"autoencoder.weights={path}", *sizes))
    if said:
        with pytest.raises(ConfigError, match=said):
            stage.build(None)
        return
    training = stage.build(None)
    tensors = tensors_of(rows(VQ_DIMS))
    network = training.autoencoder.kl if "kl" in name else training.autoencoder.vq
    assert torch.equal(network.quant_conv.weight, tensors["quant_conv.weight"])
    assert torch.equal(network.decoder.conv_out.weight, tensors["decoder.conv_out.weight"])


def test_the_demos_autoencoder_starts_from_the_one_that_ships(tmp_path: Path, capsys) -> None:
    stage = stage_in(compose("train", tmp_path, "model=autoencoder_tiny"))
    training = stage.build(None).train()
    training.before_step(0)
    images = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    training(SimpleNamespace(image=images, sample_number=torch.arange(2)), seed=0)
    begun = training.autoencoder.state_dict()  # the first step does not set it to statistics of its batch
    packed = load_file(shipped().folder / "autoencoder.safetensors")
    assert all(torch.equal(begun[name], tensor.to(begun[name].dtype)) for name, tensor in packed.items())
    assert (
        f"begins at the autoencoder of model=reference, SHA-256 {shipped().sha256['autoencoder.safetensors'][:12]}"
        in (capsys.readouterr().out)
    )
    wider = stage_in(compose("train", tmp_path, "model=autoencoder_tiny", "model.channels=32"))
    with pytest.raises(WeightsError, match=r"autoencoder.safetensors: does not fit the network that is configured"):
        wider.build(None)
    assert [fault.partition(";")[0] for fault in wider.lacking(None)] == [
        "autoencoder.weights=reference does not fit model=autoencoder_tiny: the autoencoder that ships has channels=16"
    ]
    coded = stage_in(compose("train", tmp_path, "model=autoencoder_vq_tiny", "autoencoder.weights=reference"))
    assert "num_codes=None, network=zoomldm.model.kl.LinearStartKL" in next(coded.lacking(None))
    assert not list(stage.lacking(None))
    unet = stage_in(compose("train", tmp_path, "model=zoomldm_tiny", "autoencoder.weights=reference"))
    assert any("model=autoencoder_tiny begins there; name its run" in fault for fault in unet.lacking(None))
    anew = stage_in(compose("train", tmp_path, "model=autoencoder_reference"))
    assert anew.autoencoder.weights is None
