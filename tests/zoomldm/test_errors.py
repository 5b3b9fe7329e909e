"""Words for messages."""

import pytest

from zoomldm.errors import counted, near_match


@pytest.mark.parametrize(("number", "said"), [(0, "0 slides"), (1, "1 slide"), (2, "2 slides"), (1136, "1,136 slides")])
def test_numbers_of_things(number, said):
    assert counted(number, "slide") == said


def test_a_near_match():
    assert near_match("featurs", ["features", "encoder"]) == " did you mean 'features'?"
    assert near_match("x", ["features"]) == ""
