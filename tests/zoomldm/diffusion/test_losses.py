"""The error keeps the sample axis."""

import torch

from zoomldm.diffusion.losses import squared_error


def test_one_value_a_sample():
    target = torch.zeros(2, 3, 4, 4)
    prediction = torch.stack([torch.full((3, 4, 4), 2.0), torch.full((3, 4, 4), 3.0)])
    assert squared_error(prediction, target).tolist() == [4, 9]
    assert squared_error(prediction.bfloat16(), target).dtype == torch.float32


def test_mean_of_equal_sizes_is_the_mean_over_everything():
    a, b = torch.randn(2, 6, 5, 7)
    assert torch.allclose(squared_error(a, b).mean(), torch.nn.functional.mse_loss(a, b))
