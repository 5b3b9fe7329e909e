import io
import tarfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoomldm.data.schema import encode_grid, make_key
from zoomldm.data.shards import (
    ColumnReader,
    ShardReader,
    build_index,
    column_path,
    index_path,
    read_keys,
    write_column,
)
from zoomldm.errors import DataError
from zoomldm.files import sha256_of


def grids(number):
    for i in range(number):
        yield make_key("slide.x", 2, i, 7), encode_grid(np.array([[0, 1], [1, 0]]), np.full((2, 3), i))


def metas(number):
    for i in range(number):
        yield make_key("slide.x", 2, i, 7), {"json": b'{"i": %d}' % i}


@pytest.fixture
def shard(tmp_path):
    write_column(column_path(tmp_path / "00000", "grid"), grids(9))
    write_column(column_path(tmp_path / "00000", "meta"), metas(9))
    return tmp_path


def test_samples_come_back_at_random(shard):
    reader = ShardReader(shard, "00000", ["grid", "meta"])
    assert len(reader) == 9
    expected = list(grids(9))
    for position in (8, 0, 3):
        assert reader.key(position) == expected[position][0]
        columns = reader.read(position)
        assert columns["grid"] == expected[position][1]
        assert columns["meta"] == {"json": b'{"i": %d}' % position}


def test_plain_tarfile_and_webdataset_read_the_same(shard):
    import webdataset

    path = column_path(shard / "00000", "grid")
    with tarfile.open(path) as archive:
        names = archive.getnames()
    assert names[:2] == ["slide_x_r2_x0_y7.cells.npy", "slide_x_r2_x0_y7.rows.npy"]
    samples = list(webdataset.WebDataset(str(path), shardshuffle=False).decode())
    assert [s["__key__"] for s in samples] == read_keys(path)
    assert (samples[4]["rows.npy"] == 4).all()


def test_the_same_samples_make_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_column(tmp_path / name / "0.grid.tar", grids(5))
    assert sha256_of(tmp_path / "a" / "0.grid.tar") == sha256_of(tmp_path / "b" / "0.grid.tar")


@settings(max_examples=20, deadline=None)
@given(sizes=st.lists(st.integers(0, 3000), max_size=8))
def test_the_index_written_is_the_index_found(tmp_path_factory, sizes):
    tar = tmp_path_factory.mktemp("i") / "0.meta.tar"
    count = write_column(tar, ((f"k{i}", {"json": b"x" * size}) for i, size in enumerate(sizes)))
    assert count == len(sizes)
    assert np.array_equal(np.load(index_path(tar)), build_index(tar))
    assert [build_index(tar)[i, 0, 1] for i in range(count)] == sizes


def test_a_lost_index_is_rebuilt(shard):
    index_path(column_path(shard / "00000", "meta")).unlink()
    assert ShardReader(shard, "00000", ["meta"]).read(2)["meta"]["json"] == b'{"i": 2}'


def test_a_missing_tar_is_named(shard):
    with pytest.raises(DataError, match=r"00001\.meta\.tar"):
        ShardReader(shard, "00001", ["meta"])


def test_a_truncated_tar_is_named(shard):
    path = column_path(shard / "00000", "grid")
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DataError, match=r"00000\.grid\.tar: shorter than its index"):
        ShardReader(shard, "00000", ["grid"])
    index_path(path).unlink()
    with pytest.raises(DataError, match=r"00000\.grid\.tar"):
        ShardReader(shard, "00000", ["grid"])


def test_columns_of_unequal_length_are_refused(shard):
    write_column(column_path(shard / "00000", "meta"), metas(8))
    with pytest.raises(DataError, match="unequal numbers of samples"):
        ShardReader(shard, "00000", ["grid", "meta"])


def test_samples_of_unequal_fields_are_refused(tmp_path):
    path = tmp_path / "0.x.tar"
    with tarfile.open(path, "w") as archive:
        for name in ("a.json", "b.json", "b.png"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(DataError, match="unequal fields"):
        build_index(path)


def test_an_error_while_writing_leaves_no_tar(tmp_path):
    def broken():
        yield from grids(2)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError):
        write_column(tmp_path / "0.grid.tar", broken())
    assert list(tmp_path.iterdir()) == []


def test_a_reader_says_when_it_expects_other_fields(shard):
    with pytest.raises(DataError, match=r"expected \(n, 1, 2\)"):
        ColumnReader(column_path(shard / "00000", "grid"), ("json",))
