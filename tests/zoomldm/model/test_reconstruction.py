"""The adversarial and the perceptual term: who learns from which, when they begin, and what files they need."""

import pytest
import torch
import torchvision

from tests.helpers.options import make_vq_training
from tests.helpers.tiny_autoencoder import build, make_batch, smooth_images, stepped
from zoomldm.config import Option
from zoomldm.data.pixels import to_float
from zoomldm.errors import WeightsError
from zoomldm.model.adversarial import PatchDiscriminator
from zoomldm.model.autoencoder import LinearStartAutoencoder
from zoomldm.model.perceptual import Perceptual

SIZES = {"weight": 0.75, "start_steps": 0, "channels": 4, "num_layers": 1}


def with_adversary(**change):
    section = {"_target_": "zoomldm.model.adversarial.Adversary", **SIZES, **change}
    return make_vq_training(build(LinearStartAutoencoder), start_steps=None, adversarial=Option("adversarial", section))


def gradients(module):
    return {name: parameter.grad for name, parameter in module.named_parameters() if parameter.grad is not None}


def test_the_discriminator_is_the_published_one():
    module = PatchDiscriminator(channels=64, num_layers=3)
    assert sum(p.numel() for p in module.parameters()) == 2_765_633
    assert module(torch.randn(2, 3, 256, 256)).shape == (2, 1, 30, 30)


def test_each_side_learns_from_its_own_loss_alone():
    trainable = with_adversary()
    adversary, images = trainable.reconstruction_loss.adversary, to_float(smooth_images(8))
    layer = torch.nn.Conv2d(3, 3, 1)
    reconstruction = layer(images)
    loss = (reconstruction - images).abs().flatten(1).mean(1)
    more, logged = adversary(images, reconstruction, loss=loss, last_layer=layer.weight, step=1)
    more.mean().backward()
    of_layer = layer.weight.grad.norm()
    (wanted,) = torch.autograd.grad((layer(images) - images).abs().mean(), layer.weight)
    assert of_layer.item() == pytest.approx(0.75 * wanted.norm().item(), rel=1e-2)
    judged = [adversary.discriminator(one) for one in (images, reconstruction.detach())]
    hinge = 0.5 * ((1 - judged[0]).relu().mean() + (1 + judged[1]).relu().mean())
    names = [name for name, _ in adversary.discriminator.named_parameters()]
    expected = torch.autograd.grad(hinge, list(adversary.discriminator.parameters()))
    found = gradients(adversary.discriminator)
    for name, gradient in zip(names, expected, strict=True):
        assert torch.allclose(found[name], gradient, atol=1e-6), name
    assert logged["adversarial_weight"] > 0


def test_before_its_start_and_in_evaluation_it_adds_nothing():
    trainable = with_adversary(start_steps=1)
    plain = make_vq_training(trainable.autoencoder, start_steps=None)
    batch = make_batch()
    before = stepped(trainable, 0, batch)
    before["loss_per_sample"].mean().backward()
    assert torch.equal(before["loss_per_sample"], stepped(plain, 0, batch)["loss_per_sample"])
    assert set(gradients(trainable)) == {name for name, _ in trainable.named_parameters()}
    assert all((g == 0).all() for g in gradients(trainable.reconstruction_loss).values())
    assert not torch.equal(stepped(trainable, 1, batch)["loss_per_sample"], stepped(plain, 1, batch)["loss_per_sample"])
    trainable.eval()
    plain.eval()
    assert torch.equal(trainable(batch, 0)["loss_per_sample"], plain(batch, 0)["loss_per_sample"])


def test_a_discriminator_learns_to_tell():
    trainable = with_adversary(weight=0.0)
    optimiser = torch.optim.AdamW(trainable.reconstruction_loss.parameters(), lr=2e-3)
    for step in range(60):
        out = stepped(trainable, step, make_batch(first=8 * step, seed=step))
        out["loss_per_sample"].mean().backward()
        optimiser.step()
        optimiser.zero_grad()
    assert out["discriminator_real"] > out["discriminator_fake"] + 0.2


@pytest.fixture(scope="module")
def vgg(tmp_path_factory):
    torch.manual_seed(0)
    network = torchvision.models.vgg16().features
    path = tmp_path_factory.mktemp("vgg") / "vgg16.pth"
    torch.save({f"features.{key}": value for key, value in network.state_dict().items()}, path)
    return path


def test_perceptual_distance_is_of_the_files_network(vgg):
    term = Perceptual(weights=vgg, weight=2.0)
    images = to_float(smooth_images(2)).repeat(1, 1, 2, 2)
    other = (images + 0.3 * torch.randn_like(images)).requires_grad_()
    distance = term(images, other)
    assert distance.shape == (2,)
    assert (distance > 0).all()
    assert (term(images, images) == 0).all()
    distance.sum().backward()
    assert other.grad.abs().sum() > 0
    assert list(term.state_dict()) == list(term.parameters()) == []
    network = torchvision.models.vgg16()
    network.features.load_state_dict({k.partition(".")[2]: v for k, v in torch.load(vgg).items()})
    mean, deviation = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    first = network.features[:4]((images - mean[:, None, None]) / deviation[:, None, None])
    assert torch.allclose(term._network[0].net.slice1(term._network[0].scaling_layer(images)), first, atol=1e-5)


def test_perceptual_refuses_another_file(tmp_path):
    torch.save({"features.0.weight": torch.zeros(8, 3, 3, 3)}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r"features.0.weight is not there or has another shape; expected .*VGG16"):
        Perceptual(weights=tmp_path / "x.pth", weight=1.0)
