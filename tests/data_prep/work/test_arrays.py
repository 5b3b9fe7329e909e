"""Arrays of an .npz, mapped where they lie."""

from zipfile import BadZipFile

import numpy as np
import pytest

from data_prep.work.arrays import map_npz


@pytest.fixture
def stored(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "cells": rng.integers(0, 9, (5, 7), np.int32),
        "0.tissue": rng.random(11),
        "0.spans": rng.integers(0, 1 << 40, (11, 4)),
        "7.place": np.zeros((0, 2), np.int32),
    }
    np.savez(tmp_path / "s.npz", **arrays)
    return tmp_path / "s.npz", arrays


def test_mapped_arrays_are_those_that_were_saved(stored):
    path, arrays = stored
    for names in (("cells", "0.tissue"), ("0.spans", "7.place")):
        found = map_npz(path, names)
        assert list(found) == list(names)
        for name in names:
            assert found[name].dtype == arrays[name].dtype
            np.testing.assert_array_equal(found[name], arrays[name])
            assert not found[name].flags.writeable


def test_another_file_under_the_name_is_read_as_it_is(stored):
    path, arrays = stored
    map_npz(path, ("cells",))
    np.savez(path, other=np.zeros(1000), cells=arrays["cells"] + 1)
    np.testing.assert_array_equal(map_npz(path, ("cells",))["cells"], arrays["cells"] + 1)


def test_what_cannot_be_mapped_is_an_error(stored):
    path, arrays = stored
    with pytest.raises(KeyError):
        map_npz(path, ("none",))
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises((BadZipFile, ValueError)):
        map_npz(path, ("cells",))
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="empty"):
        map_npz(path, ("cells",))
    np.savez_compressed(path, **arrays)
    with pytest.raises(ValueError, match="compressed"):
        map_npz(path, ("cells",))
