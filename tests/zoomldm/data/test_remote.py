"""Shards that lie elsewhere are fetched, checked, shared, and deleted when there is no room."""

import hashlib
import shutil
import threading

import numpy as np
import pytest
import torch

from tests.helpers.toy_data import make_toy_data
from zoomldm.curriculum.uniform import Uniform
from zoomldm.data.order.loader import TrainLoader, partition
from zoomldm.data.manifest import Manifest
from zoomldm.data.reader import SampleSource
from zoomldm.data.remote import RemoteShards, remote_shards
from zoomldm.data.order.sequence import GlobalSequence
from zoomldm.errors import DataError


@pytest.fixture(scope="module")
def far(tmp_path_factory):
    """The data set on the far side."""
    root = tmp_path_factory.mktemp("far")
    make_toy_data(root)
    return root


@pytest.fixture
def near(far, tmp_path):
    """A manifest without its shards."""
    shutil.copy(far / "manifest.json", tmp_path)
    return Manifest.load(tmp_path)


def fetched_by_cat(manifest, far, tmp_path, max_bytes=1 << 30) -> RemoteShards:
    log = tmp_path / "log"
    command = f"pipe:echo {{path}} >> {log}; cat {far}/{{path}}"
    return remote_shards(manifest, command, cache=tmp_path / "cache", max_bytes=max_bytes)


def fetches(tmp_path) -> list[str]:
    return (tmp_path / "log").read_text().split()


def test_remote_samples_are_the_local_ones_and_are_fetched_once(near, far, tmp_path):
    remote = fetched_by_cat(near, far, tmp_path)
    source = SampleSource(near, split="train", columns=("latent", "grid", "meta"), remote=remote)
    source.check_files()
    local = SampleSource(far, split="train", columns=("latent", "grid", "meta"))
    for _ in range(2):
        a, b = (s.read([0, 1, 2], [39, 3, 1]).to("cpu") for s in (source, local))
        assert a.keys == b.keys
        assert torch.equal(a.latent, b.latent)
        assert all(torch.equal(x.values, y.values) for x, y in zip(a.grids, b.grids))
    assert len(fetches(tmp_path)) == len(set(fetches(tmp_path))) == 9


def test_an_epoch_goes_from_shard_to_shard(near, far, tmp_path):
    """Two epochs of 20x: three shards fetched one after the other, with room for little more than one at a time."""
    sizes = [shard.columns["latent"]["bytes"] for shard in near.shards_of("train", 20.0)]
    remote = fetched_by_cat(near, far, tmp_path, max_bytes=max(sizes) * 2)
    source = SampleSource(near, split="train", columns=("latent",), magnifications=[20.0], remote=remote)
    sequence = GlobalSequence(
        seed=0, curriculum=Uniform(source.counts), counts=source.counts, global_batch=8, shard_sizes=source.shard_sizes
    )
    drawn = sequence.draws(np.arange(80)).index
    for epoch in (drawn[:40], drawn[40:]):
        assert sorted(epoch.tolist()) == list(range(40))
        assert (np.diff(epoch // 16) != 0).sum() == 2
    part = partition(8, max_micro_batch=8, world_size=1)
    batches = list(TrainLoader(source, sequence, part, start_step=0, end_step=5))
    assert len(batches) == 5
    assert len(list((tmp_path / "cache").glob("**/*.tar"))) <= 2


def test_the_order_does_not_depend_on_where_one_begins():
    sizes = [np.array([5, 3, 8]), np.array([4])]
    made = GlobalSequence(
        seed=2, curriculum=Uniform([16, 4]), counts=np.array([16, 4]), global_batch=4, shard_sizes=sizes
    )
    whole = made.draws(np.arange(200))
    later = made.draws(np.arange(90, 110))
    assert later.index.tolist() == whole.index[90:110].tolist()
    visits = np.bincount(whole.index[whole.rung == 0], minlength=16)
    assert visits.max() - visits.min() <= 1


def test_the_next_shards_are_fetched_in_the_background(near, far, tmp_path):
    remote = fetched_by_cat(near, far, tmp_path)
    source = SampleSource(near, split="train", columns=("latent",), remote=remote)
    source.fetch_ahead(np.array([0, 2]), np.array([20, 0]))
    remote._wanted.join()
    assert len(list((tmp_path / "cache").glob("**/*.tar"))) == 2
    source.read([0], [20])
    assert len(fetches(tmp_path)) == 2


def test_processes_wait_for_each_other_instead_of_fetching_twice(near, far, tmp_path):
    remote = fetched_by_cat(near, far, tmp_path)
    shard = near.shards_of("train", 20.0)[0].path
    threads = [threading.Thread(target=remote.tar, args=(shard, "latent")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fetches(tmp_path)) == 1


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        ("pipe:false", "bytes came|exit"),
        ("pipe:head -c 700 FAR/{path}", "bytes came"),
        ("pipe:cat FAR/{path} | tr a b", "checksum"),
    ],
)
def test_what_does_not_come_whole_is_refused(near, far, tmp_path, monkeypatch, command, complaint):
    monkeypatch.setattr("zoomldm.data.remote.PAUSE_S", 0)
    remote = remote_shards(near, command.replace("FAR", str(far)), cache=tmp_path / "cache", max_bytes=1 << 30)
    source = SampleSource(near, split="train", columns=("latent",), remote=remote)
    with pytest.raises(DataError, match=rf"cannot be fetched.*({complaint}).*paths\.remote"):
        source.read([0], [0])
    assert not list((tmp_path / "cache").glob("**/*.tar"))


def test_a_place_is_a_prefix_or_a_command(near, tmp_path):
    made = [remote_shards(near, r, cache=tmp_path, max_bytes=1) for r in ("s3://bucket/set/", "pipe:get {path} -")]
    assert made[0].url("shards/train/20x/00000", "latent") == "s3://bucket/set/shards/train/20x/00000.latent.tar"
    assert made[1].url("a/0", "grid") == "pipe:get a/0.grid.tar -"
    assert hashlib.sha256(b"").hexdigest()


def test_excluding_needs_the_shards_here(near, far, tmp_path):
    (tmp_path / "exclude.txt").write_text("p1train\n")
    with pytest.raises(DataError, match=r"exclude\.txt.*paths\.remote"):
        SampleSource(near, split="train", columns=("latent",), remote=fetched_by_cat(near, far, tmp_path))
