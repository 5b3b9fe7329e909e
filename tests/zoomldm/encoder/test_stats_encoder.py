import numpy as np
import pytest

from tests.helpers.tiny_slides import tissue_pixels
from zoomldm.encoder.base import Encoder, encode_in_batches
from zoomldm.encoder.random import RandomEncoder
from zoomldm.encoder.stats import CLIP, FEATURE_NAMES, StatsEncoder, standardise


def tiles(number=40, side=32, seed=0):
    picture = tissue_pixels(side * 8, side * 8, seed, margin=0.0)
    grid = picture.reshape(8, side, 8, side, 3).swapaxes(1, 2).reshape(64, side, side, 3)
    return grid[:number]


def column(rows, name):
    return rows[:, FEATURE_NAMES.index(name)]


@pytest.mark.parametrize("side", [16, 32, 256])
def test_shape_and_finiteness(side):
    encoder = StatsEncoder()
    rows = encoder(tiles(9, side))
    assert rows.shape == (9, encoder.dim)
    assert rows.dtype == np.float32
    assert encoder.dim <= 32
    assert np.isfinite(rows).all()
    for extreme in (0, 255):
        assert np.isfinite(encoder(np.full((2, side, side, 3), extreme, np.uint8))).all()


def test_a_tiles_vector_does_not_depend_on_its_batch():
    batch = tiles(40)
    encoder = StatsEncoder()
    together, reverse = encoder(batch), encoder(batch[::-1])[::-1]
    alone = np.concatenate([encoder(batch[i : i + 1]) for i in range(40)])
    assert np.allclose(together, reverse, rtol=1e-4, atol=1e-5)
    assert np.allclose(together, alone, rtol=1e-4, atol=1e-5)


def test_features_mean_what_their_names_say():
    encoder = StatsEncoder()
    glass = np.full((32, 32, 3), 245, np.uint8)
    pink, violet = glass.copy(), glass.copy()
    pink[:], violet[:] = (230, 120, 175), (80, 50, 130)
    right = glass.copy()
    right[:, 16:] = violet[:, 16:]
    fine = glass.copy()
    fine[:, ::2] = violet[:, ::2]
    rows = encoder(np.stack([glass, pink, violet, right, right.swapaxes(0, 1), fine]))
    assert column(rows, "fraction_glass").tolist() == [1, 0, 0, 0.5, 0.5, 0.5]
    assert column(rows, "mean_h")[2] > column(rows, "mean_h")[1]
    assert column(rows, "mean_e")[1] > column(rows, "mean_e")[0]
    assert column(rows, "fraction_nucleus")[2] == 1
    assert column(rows, "left_right_h")[3] > 0.3
    assert column(rows, "left_right_h")[3] == pytest.approx(column(rows, "top_bottom_h")[4], rel=1e-4)
    assert abs(column(rows, "top_bottom_h")[3]) < 1e-4
    assert column(rows, "gradient_h_1")[5] > 3 * column(rows, "gradient_h_1")[3]
    assert column(rows, "gradient_h_2")[5] < 0.1 * column(rows, "gradient_h_1")[5]
    assert column(rows, "local_variance_h")[5] > column(rows, "local_variance_h")[3]


def test_fit_standardises_and_the_manifest_brings_it_back():
    raw = StatsEncoder()
    batch = tiles(64)
    rows = raw(batch)
    assert raw.describe()["statistics"] is None
    fitted = StatsEncoder().fit(rows.mean(0), rows.std(0) + 1e-3)
    assert np.abs(fitted(batch).mean(0)).max() < 1e-2
    again = StatsEncoder(fitted.describe()["statistics"])
    assert np.array_equal(again(batch), fitted(batch))
    assert again.describe() == fitted.describe()


def test_standardised_values_are_held():
    rows = standardise(np.array([[5.0, -5.0, 0.5]]), np.zeros(3), np.array([1e-4, 1e-4, 1.0]))
    assert rows.tolist() == [[CLIP, -CLIP, 0.5]]


def test_odd_sides_are_refused():
    with pytest.raises(ValueError, match="16 divides"):
        StatsEncoder()(np.zeros((1, 30, 32, 3), np.uint8))


class Counting(Encoder):
    name, dim, batch_size = "counting", 1, 4

    def __init__(self):
        self.sizes = []

    def __call__(self, tiles):
        self.sizes.append(len(tiles))
        return tiles.mean((1, 2, 3), dtype=np.float32)[:, None]


@pytest.mark.parametrize("number", [0, 1, 4, 9])
def test_batches_have_a_constant_shape(number):
    encoder = Counting()
    batch = tiles(number)
    rows = encode_in_batches(encoder, batch)
    assert rows.shape == (number, 1)
    assert set(encoder.sizes) <= {4}
    assert np.allclose(rows[:, 0], batch.mean((1, 2, 3)) if number else [])


@pytest.mark.parametrize("side", [16, 32, 96])
def test_a_tile_does_not_depend_on_its_batch_mates(side):
    """To the last bit, wherever it stands and however many there are."""
    encoder = StatsEncoder()
    batch = np.random.default_rng(side).integers(0, 255, (70, side, side, 3), dtype=np.uint8)
    rows = encoder(batch)
    for size in (1, 7, 64):
        parts = [encoder(batch[start : start + size]) for start in range(0, len(batch), size)]
        assert np.array_equal(np.concatenate(parts), rows)
    order = np.random.default_rng(0).permutation(len(batch))
    assert np.array_equal(encoder(batch[order]), rows[order])


def test_random_features_tell_tiles_apart_and_are_always_the_same():
    encoder, batch = RandomEncoder(), tiles(12)
    rows = encoder(batch)
    assert rows.shape == (12, StatsEncoder.dim)
    assert np.array_equal(rows, RandomEncoder()(batch))
    assert np.allclose(rows[3:5], encoder(batch[3:5]), atol=1e-6)
    assert len(np.unique(rows.round(4), axis=0)) == 12
    fitted = RandomEncoder({"mean": rows.mean(0), "std": rows.std(0)})
    assert np.allclose(fitted(batch).std(0), 1, atol=0.01)
    assert fitted.describe()["statistics"]["features"][0] == "random_0"
