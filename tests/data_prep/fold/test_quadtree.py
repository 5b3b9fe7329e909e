"""The quadtree against a pyramid made by brute force."""

from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.fold.quadtree import Fold, block_tiles, crop_cells, morton_order, union_of
from data_prep.fold.regions import RegionSettings, find_regions
from data_prep.slides.readers.base import UnreadableError
from tests.helpers.settings import make_ladder

GLASS = np.array([240, 241, 242], np.uint8)


def padded(pixels, y, x, height, width):
    out = np.empty((height, width, 3), pixels.dtype)
    out[:] = GLASS
    inside = pixels[y : y + height, x : x + width]
    out[: inside.shape[0], : inside.shape[1]] = inside
    return out


class Source:
    """``read_boxes`` over an array, counting reads; ``broken`` tiles cannot be read."""

    def __init__(self, pixels, factor, patch_px, broken=()):
        self.pixels, self.factor, self.patch_px, self.broken, self.reads = pixels, factor, patch_px, set(broken), []

    def __call__(self, x, y, width, height):
        p, f = self.patch_px, self.factor
        for by, bx in self.broken:
            if x < (bx + 1) * p and x + width > bx * p and y < (by + 1) * p and y + height > by * p:
                raise UnreadableError("broken")
        self.reads.append((x, y, width, height))
        return padded(self.pixels, y * f, x * f, height * f, width * f), f


def regions_of(ladder, shape, stride=1.0, min_tissue=0.0, fraction=None):
    options = {"min_tissue": min_tissue, "stride": stride}
    by_label = {name: dict.fromkeys(ladder.labels, value) for name, value in options.items()}
    settings_ = RegionSettings(**by_label, max_per_slide=dict.fromkeys(ladder.labels))
    fraction = np.ones(shape, np.float32) if fraction is None else fraction
    return find_regions(fraction, ladder, settings_, slide="s", seed=0)


def fold(source, ladder, shape, regions, block_px, encode=None):
    patches, tiles = {}, {}
    encode = np.ones(shape, bool) if encode is None else encode
    runner = Fold(source, ladder, shape, regions, encode, block_px=block_px)

    def emit(k, row, pixels):
        assert (k, row) not in patches
        patches[k, row] = pixels.copy()

    def on_tiles(positions, images):
        for (y, x), image in zip(positions.tolist(), images):
            assert (y, x) not in tiles
            tiles[y, x] = image.copy()

    result = runner.run(emit, on_tiles, GLASS)
    return patches, tiles, result, runner


def brute(pixels, factor, ladder, chosen, row):
    """Average the region's read pixels over boxes, in integers, rounding once."""
    p, side = ladder.patch_px, chosen.rung.grid_side
    box = factor * side
    y, x = int(chosen.y[row]) * p * factor, int(chosen.x[row]) * p * factor
    region = padded(pixels, y, x, p * box, p * box).astype(np.int64)
    sums = region.reshape(p, box, p, box, 3).sum((1, 3))
    return (2 * sums + box * box) // (2 * box * box)


@settings(max_examples=12, deadline=None)
@given(
    patch_px=st.sampled_from([8, 12, 16]),
    num_rungs=st.integers(1, 5),
    factor=st.integers(1, 3),
    height=st.integers(9, 150),
    width=st.integers(9, 150),
    stride=st.sampled_from([1.0, 0.5, 0.25]),
    block_px=st.sampled_from([16, 32, 64, 512]),
)
def test_every_patch_is_the_box_average_of_its_region(patch_px, num_rungs, factor, height, width, stride, block_px):
    ladder = make_ladder(patch_px=patch_px, num_rungs=num_rungs)
    size = (height * factor, width * factor, 3)
    pixels = np.random.default_rng([height, width]).integers(0, 256, size, dtype=np.uint8)
    shape = (-(-height // patch_px), -(-width // patch_px))
    regions = regions_of(ladder, shape, stride)
    source = Source(pixels, factor, patch_px)
    patches, tiles, result, _ = fold(source, ladder, shape, regions, block_px)
    assert len(patches) == sum(len(chosen) for chosen in regions)
    for (k, row), patch in patches.items():
        assert np.array_equal(patch, brute(pixels, factor, ladder, regions[k], row))
    assert set(tiles) == {(y, x) for y in range(shape[0]) for x in range(shape[1])}
    assert len(source.reads) == len(set(source.reads)) == result.num_blocks


def test_tiles_are_the_base_patches():
    ladder, shape = make_ladder(patch_px=8, num_rungs=3), (5, 7)
    pixels = np.random.default_rng(0).integers(0, 256, (80, 112, 3), dtype=np.uint8)
    regions = regions_of(ladder, shape)
    patches, tiles, _, _ = fold(Source(pixels, 2, 8), ladder, shape, regions, 16)
    for row, (y, x) in enumerate(zip(regions[0].y, regions[0].x)):
        assert np.array_equal(patches[0, row], tiles[int(y), int(x)])


def test_rounding_at_each_rung_would_give_other_pixels():
    """The exact sums matter: folding rounded pixels shifts this picture."""
    ladder = make_ladder(patch_px=8, num_rungs=4)
    pixels = np.random.default_rng(3).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    regions = regions_of(ladder, (8, 8))
    patches, _, _, _ = fold(Source(pixels, 1, 8), ladder, (8, 8), regions, 16)
    rounded = pixels.astype(np.int64)
    for _ in range(3):
        rounded = (rounded[0::2, 0::2] + rounded[1::2, 0::2] + rounded[0::2, 1::2] + rounded[1::2, 1::2] + 2) // 4
    assert not np.array_equal(patches[3, 0], rounded)
    assert np.abs(patches[3, 0] - rounded).max() <= 1


def test_only_blocks_of_regions_and_encoded_tiles_are_read():
    ladder, shape = make_ladder(patch_px=8, num_rungs=2), (16, 16)
    fraction = np.zeros(shape, np.float32)
    fraction[2:4, 2:4] = 1
    regions = regions_of(ladder, shape, min_tissue=0.5, fraction=fraction)
    source = Source(np.zeros((128, 128, 3), np.uint8), 1, 8)
    _, tiles, result, _ = fold(source, ladder, shape, regions, 32, encode=fraction > 0)
    assert result.num_blocks == 1
    assert set(tiles) == {(2, 2), (2, 3), (3, 2), (3, 3)}


def test_an_unreadable_tile_takes_its_regions_with_it_and_no_others():
    ladder, shape, broken = make_ladder(patch_px=8, num_rungs=3), (8, 8), (5, 2)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    regions = regions_of(ladder, shape)
    patches, tiles, result, _ = fold(Source(pixels, 1, 8, {broken}), ladder, shape, regions, 32)
    assert result.unreadable == [broken]
    assert broken not in tiles
    for k, chosen in enumerate(regions):
        side = chosen.rung.grid_side
        for row, (y, x) in enumerate(zip(chosen.y, chosen.x)):
            holds = y <= broken[0] < y + side and x <= broken[1] < x + side
            assert ((k, row) in patches) != holds
            if not holds:
                assert np.array_equal(patches[k, row], brute(pixels, 1, ladder, chosen, row))
    assert result.num_regions_skipped == 3


@pytest.mark.parametrize(("num_broken_rows", "is_refused"), [(3, False), (5, True), (20, True)])
def test_a_slide_of_which_more_than_a_fifth_is_unreadable_is_refused(num_broken_rows, is_refused):
    ladder, shape = make_ladder(patch_px=8, num_rungs=2), (20, 20)
    broken = {(y, x) for y in range(num_broken_rows) for x in range(20)}
    source = Source(np.zeros((160, 160, 3), np.uint8), 1, 8, broken)
    with pytest.raises(UnreadableError, match="more than a fifth") if is_refused else nullcontext():
        _, _, result, _ = fold(source, ladder, shape, regions_of(ladder, shape), 16)
        assert len(result.unreadable) == 20 * num_broken_rows


@given(st.integers(1, 20), st.integers(1, 20))
def test_morton_order_visits_every_block_once(height, width):
    visited = list(morton_order(height, width))
    assert sorted(visited) == [(y, x) for y in range(height) for x in range(width)]


@given(st.sampled_from([8, 12, 16, 32, 33, 256]), st.integers(1, 8), st.sampled_from([1, 64, 1024]))
def test_a_block_holds_whole_pixels_of_the_coarsest_rung(patch_px, num_rungs, block_px):
    tiles = block_tiles(make_ladder(patch_px=patch_px, num_rungs=num_rungs), block_px)
    assert tiles * patch_px >= block_px
    assert tiles * patch_px % 2 ** (num_rungs - 1) == 0
    assert tiles & (tiles - 1) == 0


def test_union_marks_the_tiles_of_the_regions():
    ladder, shape = make_ladder(patch_px=8, num_rungs=3), (9, 7)
    regions = regions_of(ladder, shape)[2:]
    mask = union_of(regions, shape)
    brute_mask = np.zeros(shape, bool)
    for y, x in zip(regions[0].y, regions[0].x):
        brute_mask[y : y + 4, x : x + 4] = True
    assert np.array_equal(mask, brute_mask)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 3))
def test_a_grid_is_made_of_its_childrens_grids(height, width, k):
    """The crop of rung k+1 is the four crops of rung k as blocks, over the edge as well."""
    cells = np.arange(1, height * width + 1, dtype=np.int32).reshape(height, width)
    side = 2**k
    for y in range(0, height, 2 * side):
        for x in range(0, width, 2 * side):
            children = [[crop_cells(cells, y + dy, x + dx, side) for dx in (0, side)] for dy in (0, side)]
            assert np.array_equal(crop_cells(cells, y, x, 2 * side), np.block(children))
