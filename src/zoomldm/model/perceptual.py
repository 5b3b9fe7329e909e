"""The perceptual term of an autoencoder's training: LPIPS (Zhang et al. 2018) over VGG16, from a file of weights.

Legend: b batch, p patch side (px).
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from zoomldm.errors import WeightsError
from zoomldm.weights.read import read_tensors

MEANT = "torchvision's VGG16 of ImageNet (vgg16-397923af.pth)"


class Perceptual(nn.Module):
    """Give the LPIPS distance of images, with frozen networks that are no part of the model's state.

    Args:
        weights: torchvision's VGG16; the linear layers come with the package lpips.
        weight: of the term beside the absolute error of images in [-1, 1].

    Raises:
        WeightsError: the file is none of VGG16.
    """

    def __init__(self, *, weights: str | Path, weight: float) -> None:
        super().__init__()
        self.weight = weight
        self._network = (_lpips(Path(weights).expanduser()),)  # in a tuple: nothing of it is saved or trained

    def forward(self, images: Tensor, reconstruction: Tensor) -> Tensor:
        """Give the weighted distance (b,) of images `b 3 p p` in [-1, 1]."""
        network = self._network[0].to(images.device)
        return self.weight * network(images, reconstruction).flatten(1).mean(1)


def _lpips(path: Path) -> nn.Module:
    from lpips import LPIPS

    network = LPIPS(net="vgg", pnet_rand=True, verbose=False).eval().requires_grad_(False)
    tensors = read_tensors(path)
    slices = {f"{part}.{key}": value for part, layers in network.net.named_children() for key, value in _named(layers)}
    for name, parameter in slices.items():
        key = "features." + name.partition(".")[2]
        if key not in tensors or tensors[key].shape != parameter.shape:
            raise WeightsError(f"{path}: {key} is not there or has another shape; expected {MEANT}")
        parameter.data.copy_(tensors[key])
    return network


def _named(layers: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return list(layers.named_parameters())
