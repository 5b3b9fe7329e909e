"""A run whose loss explodes is stopped."""

import pytest

from zoomldm.errors import UserError
from zoomldm.training.watch import ExplosionWatch


def test_an_explosion_is_measured_against_the_first_loss():
    watch = ExplosionWatch(10)
    for loss in (1.0, 0.1, 9.0):
        watch.see(loss, 5, "20x", "")
    again = ExplosionWatch(10)
    again.load_state_dict(watch.state_dict())
    with pytest.raises(
        UserError, match=r"step 9: the loss is 11, 10 times what it was at first \(1\); worst at 20x; none"
    ):
        again.see(11.0, 9, "20x", "none")
