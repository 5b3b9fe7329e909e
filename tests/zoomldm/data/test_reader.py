"""Random access gives the samples that were written, and damage is reported with the file's name."""

import io
import shutil
import tarfile

import numpy as np
import pytest
import torch
import webdataset

from tests.helpers.toy_data import make_toy_data, toy_sample
from zoomldm.data.manifest import Manifest
from zoomldm.data.members import OpenFiles
from zoomldm.data.reader import SampleSource
from zoomldm.data.schema import decode_grid, decode_image, decode_npy, encode_npy
from zoomldm.data.shards import build_index, index_path, write_index
from zoomldm.errors import DataError

ALL = ("image", "grid", "latent", "meta")


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    root = tmp_path_factory.mktemp("toy")
    return make_toy_data(root), root


@pytest.fixture
def damaged(toy, tmp_path):
    """A copy of the data, to be damaged."""
    return shutil.copytree(toy[1], tmp_path / "toy")


def read_all(source, rung):
    index = np.arange(source.counts[rung])
    return source.read(np.full(len(index), rung), index).to("cpu")


def test_samples_are_those_that_were_written(toy):
    manifest, root = toy
    batch = SampleSource(root, split="train", columns=ALL).read([2, 0, 1, 2, 0], [7, 39, 0, 1, 15]).to("cpu")
    grids = {i: g.values[n].numpy() for g in batch.grids for n, i in enumerate(g.index.tolist())}
    for place, (rung, index) in enumerate([(2, 7), (0, 39), (1, 0), (2, 1), (0, 15)]):
        written = toy_sample(manifest.ladder, rung, index, "train", 4, 4)
        assert np.array_equal(batch.image[place].numpy().transpose(1, 2, 0), decode_image(written["image"]["png"]))
        assert np.array_equal(batch.latent[place].numpy(), decode_npy(written["latent"]["latent.npy"]))
        assert np.array_equal(grids[place], decode_grid(written["grid"]))
        assert batch.meta[place].encode() == written["meta"]["json"]
    assert batch.keys == [meta.key for meta in batch.meta]
    assert len(set(batch.sample_number.tolist())) == 5


def test_a_plain_webdataset_pipeline_reads_the_same_samples(toy):
    _, root = toy
    source = SampleSource(root, split="train", columns=ALL)
    batch = read_all(source, 1)
    columns = {
        column: list(
            webdataset.WebDataset(sorted(map(str, root.glob(f"shards/train/10x/*.{column}.tar"))), shardshuffle=False)
        )
        for column in ALL
    }
    assert [sample["__key__"] for sample in columns["grid"]] == batch.keys
    grids = next(group for group in batch.grids).values.numpy()
    for i in range(len(batch)):
        assert np.array_equal(decode_image(columns["image"][i]["png"]), batch.image[i].numpy().transpose(1, 2, 0))
        assert np.array_equal(np.load(io.BytesIO(columns["latent"][i]["latent.npy"])), batch.latent[i].numpy())
        assert np.array_equal(decode_grid(columns["grid"][i]), grids[i])


def test_columns_that_are_not_asked_for_are_not_read(toy):
    batch = SampleSource(toy[1], split="test", columns=("latent",)).read([0], [0])
    assert batch.image is None
    assert batch.grids is None
    assert batch.meta is None


def test_only_the_magnifications_asked_for_have_samples(toy):
    source = SampleSource(toy[1], split="train", columns=("latent",), magnifications=[10.0])
    assert source.counts.tolist() == [0, 20, 0]


def test_few_open_files_are_enough(toy):
    _, root = toy
    source = SampleSource(root, split="train", columns=("latent",))
    expected = read_all(source, 0)
    source._files = OpenFiles()
    source._files.capacity = 1
    again = source.read([0] * 40, np.arange(40)[::-1].copy())
    assert torch.equal(again.latent.flip(0), expected.latent)
    assert len(source._files._columns) == 1


def test_a_missing_index_is_built(damaged):
    expected = read_all(SampleSource(damaged, split="train", columns=("grid",)), 1)
    for path in damaged.glob("shards/train/*/*.index.npy"):
        path.unlink()
    found = read_all(SampleSource(damaged, split="train", columns=("grid",)), 1)
    assert torch.equal(found.grids[0].values, expected.grids[0].values)


def test_grids_read_apart_are_the_same(toy, monkeypatch):
    """The way for members that are no neighbours in the tar."""
    source = SampleSource(toy[1], split="train", columns=("grid",))
    expected = read_all(source, 2)
    monkeypatch.setattr("zoomldm.data.members._LONGEST_GAP", 0)
    assert torch.equal(read_all(source, 2).grids[0].values, expected.grids[0].values)


def test_excluded_patients_and_slides_are_left_out(damaged):
    everything = read_all(SampleSource(damaged, split="train", columns=("meta",)), 0)
    (damaged / "exclude.txt").write_text("p1train  # a patient\ns2.train\n")
    source = SampleSource(damaged, split="train", columns=("meta",))
    left = read_all(source, 0)
    expected = [m for m in everything.meta if m.patient != "p1train" and m.slide != "s2.train"]
    assert left.meta == expected
    assert 0 < len(left.meta) == source.counts[0] < len(everything.meta)


def test_evaluation_samples_are_a_fixed_subset(toy):
    source = SampleSource(toy[1], split="train", columns=("meta",))
    rung, index = source.eval_samples(10.0, 7, seed=4)
    assert rung.tolist() == [1] * 7
    assert index.tolist() == sorted(set(index.tolist()))
    keys = [key for batch in source.eval_batches(10.0, 7, seed=4, batch_size=3) for key in batch.keys]
    assert keys == source.keys(rung, index)
    assert len(source.eval_samples(10.0, 1000, seed=4)[1]) == 20


def test_all_damaged_files_are_named_at_once(damaged):
    source = SampleSource(damaged, split="train", columns=("latent", "grid"))
    source.check_files()
    missing, short = damaged / "shards/train/20x/00000.latent.tar", damaged / "shards/train/5x/00000.grid.tar"
    missing.unlink()
    short.write_bytes(short.read_bytes()[:1000])
    with pytest.raises(DataError) as caught:
        source.check_files()
    assert str(missing) in str(caught.value)
    assert str(short) in str(caught.value)


def test_a_missing_shard_is_named_when_read(damaged):
    tar = damaged / "shards/train/10x/00001.latent.tar"
    tar.unlink()
    with pytest.raises(DataError, match=r"10x/00001\.latent\.tar"):
        read_all(SampleSource(damaged, split="train", columns=("latent",)), 1)


@pytest.mark.parametrize("column", ["latent", "grid", "image", "meta"])
def test_a_shard_cut_short_is_named(damaged, column):
    tar = damaged / f"shards/train/10x/00000.{column}.tar"
    tar.write_bytes(tar.read_bytes()[: tar.stat().st_size // 2])
    with pytest.raises(DataError, match=rf"10x/00000\.{column}\.tar.*(short|cut)"):
        read_all(SampleSource(damaged, split="train", columns=(column,)), 1)


def test_a_shard_cut_short_while_open_is_named(damaged):
    source = SampleSource(damaged, split="train", columns=("latent",))
    source.read([1], [0])
    with open(damaged / "shards/train/10x/00000.latent.tar", "r+b") as stream:
        stream.truncate(2000)
    with pytest.raises(DataError, match=r"10x/00000\.latent\.tar.*cut short"):
        source.read([1], [9])


def test_an_index_of_another_tar_is_noticed(damaged):
    path = index_path(damaged / "shards/train/20x/00000.latent.tar")
    index = np.load(path)
    index[:, :, 0] += 512
    np.save(path, index)
    with pytest.raises(DataError, match=r"20x/00000\.latent\.tar"):
        read_all(SampleSource(damaged, split="train", columns=("latent",)), 0)


def rewrite(tar, change):
    """Replace the members of a tar by change(name, content)."""
    with tarfile.open(tar) as archive:
        members = [(m.name, archive.extractfile(m).read()) for m in archive]
    with tarfile.open(tar, "w") as archive:
        for name, content in members:
            name, content = change(name, content)
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    write_index(tar, build_index(tar))


def test_grids_of_another_encoder_are_refused(damaged):
    tar = damaged / "shards/train/10x/00000.grid.tar"
    rewrite(tar, lambda n, c: (n, encode_npy(np.zeros((3, 5), np.float16)) if n.endswith("rows.npy") else c))
    with pytest.raises(DataError, match=r"00000\.grid\.tar.*\(3, 5\).*makes 4"):
        read_all(SampleSource(damaged, split="train", columns=("grid",)), 1)


def test_latents_of_another_shape_are_refused(damaged):
    tar = damaged / "shards/train/20x/00001.latent.tar"
    rewrite(tar, lambda n, c: (n, encode_npy(np.zeros((3, 8, 8), np.float16))))
    with pytest.raises(DataError, match=r"00001\.latent\.tar.*\(3, 8, 8\).*\(3, 4, 4\)"):
        read_all(SampleSource(damaged, split="train", columns=("latent",)), 0)


def test_foreign_members_are_refused(damaged):
    tar = damaged / "shards/train/20x/00000.latent.tar"
    rewrite(tar, lambda n, c: (n.replace("latent.npy", "vector.npy"), c))
    with pytest.raises(DataError, match=r"vector\.npy.*expected \*\.latent\.npy"):
        read_all(SampleSource(damaged, split="train", columns=("latent",)), 0)


def test_a_cell_beyond_the_rows_is_refused(damaged):
    tar = damaged / "shards/train/10x/00000.grid.tar"
    rewrite(tar, lambda n, c: (n, encode_npy(np.full((2, 2), 999, np.uint16)) if n.endswith("cells.npy") else c))
    with pytest.raises(DataError, match="beyond the rows"):
        read_all(SampleSource(damaged, split="train", columns=("grid",)), 1)


def test_a_data_set_without_the_column_is_refused(tmp_path):
    make_toy_data(tmp_path, columns=("image", "grid", "meta"))
    with pytest.raises(DataError, match="latent"):
        SampleSource(Manifest.load(tmp_path), split="train", columns=("latent",))
