"""Pixels and what networks see of them."""

import torch

from zoomldm.data.pixels import to_float, to_uint8


def test_bytes_round_trip():
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    assert torch.equal(to_uint8(to_float(images)), images)
    assert to_uint8(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]
