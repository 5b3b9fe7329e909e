"""A finished tar is kept; one of another maker, or cut short, is not."""

import pytest

from data_prep.columns.record import read_record, write_recorded
from zoomldm.data.shards import column_path


def samples(found):
    for number in range(3):
        found["count"] = number + 1
        yield f"k{number}", {"latent.npy": b"x" * number}


@pytest.fixture
def base(tmp_path):
    base, found = tmp_path / "00000", {"count": 0}
    record = write_recorded(base, "latent", {"by": "one"}, samples(found), found)
    assert record.found == {"count": 3}
    assert record.tar["bytes"] == column_path(base, "latent").stat().st_size
    return base


def test_what_was_written_is_read_back(base):
    record = read_record(base, "latent", {"by": "one"})
    assert record.found == {"count": 3}
    assert set(record.tar) == {"bytes", "sha256"}


def test_another_maker_another_column_and_damage_are_not_finished(base):
    assert read_record(base, "latent", {"by": "two"}) is None
    assert read_record(base, "variants", {"by": "one"}) is None
    tar = column_path(base, "latent")
    tar.write_bytes(tar.read_bytes()[:-1])
    assert read_record(base, "latent", {"by": "one"}) is None


def test_a_tar_that_is_being_written_has_no_record(base):
    def broken():
        yield "k0", {"latent.npy": b"x"}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_recorded(base, "latent", {"by": "two"}, broken(), {})
    assert read_record(base, "latent", {"by": "one"}) is None
    assert read_record(base, "latent", {"by": "two"}) is None
