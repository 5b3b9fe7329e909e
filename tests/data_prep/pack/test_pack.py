"""What shards hold: patches, grids and splits, in a shuffled order, with counts that agree."""

import io

import numpy as np
import pytest

from data_prep.report.verification import verify
from tests.helpers.prepare import hashes, prepare_folder, samples_of, tiny_preparation
from zoomldm.data.manifest import Manifest
from zoomldm.data.schema import decode_grid, decode_image
from zoomldm.data.shards import ColumnReader, column_path, read_keys
from zoomldm.errors import DataError


def test_grids_hold_the_embeddings_of_the_tiles_they_cover(slides, tmp_path):
    """A low magnification's grid cell equals the 20x sample's grid at that place; other cells are the slide's glass."""
    manifest = prepare_folder(slides, tmp_path / "data")
    tiles, compared, glass = {}, 0, {}
    for shard, meta, columns in samples_of(manifest):
        if shard.magnification == 20:
            tiles[meta.slide, meta.x_px0, meta.y_px0] = decode_grid(columns["grid"])[0, 0]
    for shard, meta, columns in samples_of(manifest):
        if shard.magnification < 20:
            grid = decode_grid(columns["grid"])
            assert grid.shape == (20 / shard.magnification,) * 2 + (manifest.encoder.dim,)
            for (row, column), _ in np.ndenumerate(grid[..., 0]):
                place = (meta.slide, meta.x_px0 + 16 * column, meta.y_px0 + 16 * row)
                if place in tiles:
                    assert np.array_equal(grid[row, column], tiles[place])
                    compared += 1
            cells = np.load(io.BytesIO(columns["grid"]["cells.npy"]))
            if (cells == 0).any():
                row = grid[cells == 0][0]
                assert np.array_equal(glass.setdefault(meta.slide, row), row)
    assert compared > 300


def test_embeddings_are_standardised_on_train(slides, tmp_path):
    manifest = prepare_folder(slides, tmp_path / "data", min_tissue=0.05)
    statistics = manifest.encoder.statistics
    assert len(statistics["mean"]) == manifest.encoder.dim
    rows = [decode_grid(c["grid"])[0, 0] for s, _, c in samples_of(manifest, "train") if s.magnification == 20]
    rows = np.array(rows, np.float64)
    assert abs(len(rows) - statistics["num_tiles"]) < 0.3 * len(rows)
    assert np.abs(rows.mean(0)).max() < 0.5
    varied = np.array(statistics["std"]) > 2e-4
    assert varied.sum() > 15
    assert np.abs(rows.std(0)[varied] - 1).max() < 0.5


def test_counts_splits_and_columns_agree(slides, tmp_path):
    manifest = prepare_folder(slides, tmp_path / "data", stride=0.5, shard_samples=100)
    assert verify(manifest) == []
    assert Manifest.load(tmp_path / "data") == manifest
    assert sorted(manifest.patients["train"] + manifest.patients["test"]) == ["a", "b", "c"]
    sizes = {}
    for shard, meta, _ in samples_of(manifest):
        assert meta.patient in manifest.patients[shard.split]
        sizes[shard.path] = shard.num_samples
    assert max(sizes.values()) <= 100
    assert len(manifest.shards_of("train", 20)) > 1
    shards = [shard.num_samples for shard in manifest.shards_of("train", 20)]
    assert max(shards) - min(shards) <= 1  # balanced


def test_the_order_of_samples_is_shuffled_across_slides(slides, tmp_path):
    manifest = prepare_folder(slides, tmp_path / "data")
    shard = manifest.shards_of("train", 20)[0]
    keys = read_keys(column_path(manifest.root / shard.path, "meta"))
    names = [key.split("_")[0] for key in keys]
    assert names != sorted(names)


def test_one_patient_is_held_out_by_area_and_no_regions_meet(tiny_slide, tmp_path, capsys):
    tiny_slide("only", width=600, height=600)
    manifest = prepare_folder(tmp_path / "slides", tmp_path / "data", stride=0.5)
    assert manifest.held_out == "area"
    assert "one patient only" in capsys.readouterr().out
    covered = {"train": np.zeros((900, 900), bool), "test": np.zeros((900, 900), bool)}
    for shard, meta, _ in samples_of(manifest):
        box = slice(meta.y_px0, meta.y_px0 + meta.region_px0), slice(meta.x_px0, meta.x_px0 + meta.region_px0)
        covered[shard.split][box] = True
    assert covered["train"].any()
    assert covered["test"].any()
    assert not (covered["train"] & covered["test"]).any()


def test_magnifications_with_too_little_tissue_are_dropped_with_a_line(slides, tmp_path, capsys):
    manifest = prepare_folder(slides, tmp_path / "data", min_samples={"train": 15, "test": 2})
    assert "2.5x" in manifest.dropped
    assert "dropped: too little tissue for regions of 128 px" in capsys.readouterr().out
    assert 2.5 not in manifest.magnifications
    assert not (tmp_path / "data" / "shards" / "train" / "2.5x").exists()
    assert verify(manifest) == []


def test_nothing_left_is_an_error_with_the_reasons(slides, tmp_path):
    with pytest.raises(DataError, match="no magnification has enough samples"):
        prepare_folder(slides, tmp_path / "data", min_samples={"train": 10**6, "test": 0})


def test_a_full_data_set_of_jpeg_keeps_lossless_references(slides, tmp_path):
    fractions = {"20x": 0.25, "10x": 1.0, "5x": 0.0, "2.5x": 0.5}
    manifest = prepare_folder(slides, tmp_path / "data", image_format="jpeg", reference=fractions)
    lossless = prepare_folder(slides, tmp_path / "png")
    assert verify(manifest) == []
    share = {}
    for shard in manifest.shards:
        if "reference" in shard.columns:
            keys = read_keys(column_path(manifest.root / shard.path, "reference"))
            share.setdefault(shard.magnification, []).append((len(keys), shard.num_samples))
    total = {m: sum(a for a, _ in v) / sum(b for _, b in v) for m, v in share.items()}
    assert total[10.0] == 1
    assert 5.0 not in total
    assert 0.1 < total[20.0] < 0.4
    shard = manifest.shards_of("train", 10)[0]
    reference = ColumnReader(column_path(manifest.root / shard.path, "reference"), ("png",))
    exact = {m.key: c["image"]["png"] for s, m, c in samples_of(lossless) if s.magnification == 10}
    for position in range(len(reference)):
        assert np.array_equal(decode_image(reference[position]["png"]), decode_image(exact[reference.key(position)]))


def test_a_samples_meta_says_the_slides_own_scale(tiny_slide, tmp_path):
    """Scanned at 0.26 mpp, a box of 2 makes base pixels of 0.52: four per cent more than the ladder's 0.5."""
    for number, name in enumerate(("a", "b")):
        tiny_slide(name, seed=number, mpp=0.26, width=700, height=640)
    manifest = prepare_folder(tmp_path / "slides", tmp_path / "data")
    seen = set()
    for shard, meta, _ in samples_of(manifest):
        side = round(20 / shard.magnification)
        assert meta.mpp_nominal == pytest.approx(0.5 * side)
        assert meta.mpp_true == pytest.approx(0.52 * side)
        assert meta.region_px0 == 2 * 16 * side
        seen.add(side)
    assert seen == {1, 2, 4, 8}


def test_held_out_slides_may_have_fewer_patches_than_those_that_are_trained_on(slides, tmp_path):
    """Shards of a setting that was not asked for stay what they are; train is untouched, the choice is the seed's."""
    whole = prepare_folder(slides, tmp_path / "whole")
    most = {label: 2 if label == "20x" else None for label in whole.ladder.labels}
    manifest = prepare_folder(slides, tmp_path / "few", max_test_per_slide=most)
    again = prepare_folder(slides, tmp_path / "again", max_test_per_slide=most)
    assert manifest.counts["train"] == whole.counts["train"]
    assert manifest.counts["test"] == whole.counts["test"] | {"20x": 2 * len(manifest.patients["test"])}
    assert hashes(tmp_path / "few") == hashes(tmp_path / "again")
    assert {name: one for name, one in hashes(tmp_path / "few").items() if "/train/" in name}.items() <= hashes(
        tmp_path / "whole"
    ).items()
    assert again.sha256 == manifest.sha256
    assert "max_test_per_slide" not in tiny_preparation(slides, tmp_path / "x").pack_settings.to_dict()
