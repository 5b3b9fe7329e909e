"""What a U-Net is told of the level above: where it lies, how training spoils it, and that it begins without effect."""

import pytest
import torch
from torch.nn import functional

from zoomldm.errors import ConfigError, WeightsError
from zoomldm.model.parent import ParentInput, num_planes, planes, widened
from zoomldm.model.unet import build_unet

AS_IT_IS = {"probability": 1.0, "noise": 0.0, "blur": 0.0, "token_noise": 0.0}
TOKENS = torch.randn(64, 16, 5, generator=torch.Generator().manual_seed(1))


def told(num=6, first=0, seed=0, **changed):
    numbers = torch.arange(first, first + num)
    return ParentInput(**{**AS_IT_IS, **changed}).of_training(
        images(64)[numbers], TOKENS[numbers], numbers, seed, side=8
    )


def images(num=6, side=32):
    return torch.rand(num, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


def unet(told=0):
    sizes = {"sample_size": 8, "in_channels": 4 + told, "out_channels": 4, "model_channels": 16, "channel_mult": [1, 2]}
    more = {"num_res_blocks": 1, "attention": [False, True], "num_heads": 2, "context_dim": 8, "norm_groups": 8}
    torch.manual_seed(0)
    return build_unet(**sizes, **more)


def test_each_latent_cell_has_the_pixels_above_it_and_a_one():
    parents = functional.avg_pool2d(images(), 2)
    over = planes(parents, 8)
    assert over.shape == (6, num_planes(32, 8), 8, 8)
    assert torch.equal(over[:, :12].reshape(6, 3, 2, 2, 8, 8)[..., 3, 5], parents[:, :, 6:8, 10:12])
    assert (over[:, 12] == 1).all()


def test_a_region_is_told_what_its_windows_are():
    parent = functional.avg_pool2d(images(1, 64), 2)
    whole, corner = planes(parent, (16, 16)), planes(parent[..., 16:, :16], 8)
    assert torch.equal(whole[..., 8:, :8], corner)


def test_training_tells_the_averages_of_the_patch_itself():
    parents, tokens = told()
    assert torch.equal(parents, planes(functional.avg_pool2d(images(64)[:6], 2), 8))
    assert torch.equal(tokens, TOKENS[:6])


def test_what_a_sample_is_told_depends_on_its_number_alone():
    spoilt = {"probability": 0.5, "noise": 0.2, "blur": 0.5, "token_noise": 0.5, "seed": 3}
    whole, alone = told(64, **spoilt), told(1, first=40, **spoilt)
    assert all(torch.allclose(a[40:41], b) for a, b in zip(whole, alone))
    known = whole[0][:, -1].amax((1, 2))
    assert 16 < known.sum() < 48
    assert (whole[0][known == 0] == 0).all()
    assert torch.equal(whole[1][known == 0], TOKENS[known == 0])  # who is not told the parent may trust the tokens
    assert (whole[1][known == 1] != TOKENS[known == 1]).any(dim=2).all()


@pytest.mark.parametrize("key", ["noise", "blur", "token_noise"])
def test_noise_and_blur_change_what_is_told(key):
    before, after = told(64), told(64, **{key: 1.0})
    parents, tokens = (float((b - a).square().mean()) for a, b in zip(before, after))
    assert (parents > 0.01, tokens > 0.1) == (key != "token_noise", key == "token_noise")


@pytest.mark.parametrize("wrong", [{"probability": 1.5}, {"noise": -1}, {"blur": -0.1}, {"token_noise": -1}])
def test_senseless_chances_are_refused(wrong):
    with pytest.raises(ConfigError, match=f"model.parent.{next(iter(wrong))}"):
        ParentInput(**{**AS_IT_IS, **wrong})


def test_cells_of_one_pixel_have_no_parent_of_their_own():
    with pytest.raises(ConfigError, match=r"model\.parent"):
        num_planes(32, 32)


def test_a_widened_unet_says_the_same_whatever_it_is_told():
    plain, wide = unet(), unet(told=13)
    weights = {f"unet.{name}": value for name, value in plain.state_dict().items()}
    like = {f"unet.{name}": value for name, value in wide.state_dict().items()}
    wide.load_state_dict({name.removeprefix("unet."): value for name, value in widened(weights, like).items()})
    x, t, tokens = torch.randn(2, 4, 8, 8), torch.tensor([3, 900]), torch.randn(2, 5, 8)
    said = wide(torch.cat([x, torch.randn(2, 13, 8, 8)], 1), t, encoder_hidden_states=tokens).sample
    assert torch.allclose(said, plain(x, t, encoder_hidden_states=tokens).sample, atol=1e-5)


def test_weights_of_another_model_are_refused():
    weights = {f"unet.{name}": value for name, value in unet().state_dict().items()}
    with pytest.raises(WeightsError, match=r"conv_in\.weight"):
        widened({**weights, "unet.conv_in.weight": torch.zeros(8, 4, 3, 3)}, weights)
    with pytest.raises(WeightsError, match="1 weights"):
        widened({name: value for name, value in weights.items() if name != "unet.conv_in.bias"}, weights)
