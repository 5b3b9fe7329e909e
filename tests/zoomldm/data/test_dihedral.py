"""Flips and quarter turns: a group of eight, patch and grid together."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.helpers.toy_data import make_toy_data
from zoomldm.curriculum.uniform import Uniform
from zoomldm.data.dihedral import NUM_VARIANTS, transformed
from zoomldm.data.order.loader import TrainLoader, partition
from zoomldm.data.manifest import Manifest
from zoomldm.data.reader import SampleSource
from zoomldm.data.schema import decode_npy, encode_npy
from zoomldm.data.order.sequence import GlobalSequence
from zoomldm.data.shards import ShardReader, column_path, write_column
from zoomldm.files import sha256_of
from zoomldm.errors import DataError


def test_variants_are_the_eight_symmetries_of_a_square():
    square = np.arange(9).reshape(3, 3)
    variants = [transformed(square, v) for v in range(NUM_VARIANTS)]
    assert np.array_equal(variants[0], square)
    assert len({v.tobytes() for v in variants}) == 8
    products = {transformed(transformed(square, a), b).tobytes() for a, b in itertools.product(range(8), repeat=2)}
    assert products == {v.tobytes() for v in variants}
    with pytest.raises(ValueError, match="variant 8"):
        transformed(square, 8)


def test_a_patch_and_its_grid_turn_together():
    """A grid of the patch's own pixels stays that under every variant."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 4))
    grid = pixels.transpose(1, 2, 0)
    for variant in range(NUM_VARIANTS):
        turned = transformed(pixels, variant).transpose(1, 2, 0)
        assert np.array_equal(turned, transformed(grid, variant, axes=(0, 1)))


@pytest.fixture
def augmented(tmp_path):
    """A data set with turned latents at 5x: variant v has v added, so that a test tells them apart."""
    manifest = make_toy_data(tmp_path)
    shards = []
    for shard in manifest.shards:
        if shard.magnification == 5.0 and shard.split == "train":
            reader = ShardReader(tmp_path, shard.path, ["latent"])
            samples = [
                (reader.key(i), {"variants.npy": encode_npy(np.stack([latent + v for v in range(1, 8)]))})
                for i in range(len(reader))
                for latent in [decode_npy(reader.read(i)["latent"]["latent.npy"])]
            ]
            tar = column_path(tmp_path / shard.path, "variants")
            write_column(tar, samples)
            facts = {"bytes": tar.stat().st_size, "sha256": sha256_of(tar)}
            shard = replace(shard, columns=shard.columns | {"variants": facts})
        shards.append(shard)
    manifest.shards = shards
    manifest.columns = manifest.columns | {"variants": {"autoencoder_sha256": None}}
    manifest.save(tmp_path)
    return tmp_path


def test_samples_of_augmented_magnifications_are_turned(augmented):
    source = SampleSource(augmented, split="train", columns=("image", "latent", "grid"), augmented=[5.0])
    plain = source.read([2] * 8 + [0], [3] * 8 + [1]).to("cpu")
    turned = source.read([2] * 8 + [0], [3] * 8 + [1], variant=np.array([*range(8), 5])).to("cpu")
    for v in range(8):
        assert np.array_equal(turned.image[v].numpy(), transformed(plain.image[v].numpy(), v))
        assert np.array_equal(
            turned.grids[1].values[v].numpy(), transformed(plain.grids[1].values[v].numpy(), v, axes=(0, 1))
        )
        assert torch.equal(turned.latent[v], (plain.latent[v] + v).half())
    assert torch.equal(turned.latent[8], plain.latent[8])
    assert torch.equal(turned.image[8], plain.image[8])


def test_training_sees_every_variant_and_the_same_one_for_the_same_number(augmented):
    source = SampleSource(augmented, split="train", columns=("latent",), magnifications=[5.0], augmented=[5.0])
    sequence = GlobalSequence(seed=1, curriculum=Uniform(source.counts), counts=source.counts, global_batch=64)
    variants = sequence.variants(np.arange(6400))
    assert np.bincount(variants, minlength=8).min() > 700
    whole, halves = (
        [
            b
            for micro in (size,)
            for b in TrainLoader(
                source, sequence, partition(64, max_micro_batch=micro, world_size=1), start_step=0, end_step=2
            )
        ]
        for size in (64, 32)
    )
    assert torch.equal(torch.cat([b.latent for b in whole]), torch.cat([b.latent for b in halves]))


def test_turned_latents_that_are_missing_or_stale_are_said(augmented):
    with pytest.raises(DataError, match=r"augment=\[20\].*not there for 20.*variants=\[20\]"):
        SampleSource(augmented, split="train", columns=("latent",), augmented=[20.0])
    manifest = Manifest.load(augmented)
    manifest.columns["variants"]["autoencoder_sha256"] = "other"
    with pytest.raises(DataError, match="another autoencoder"):
        SampleSource(manifest, split="train", columns=("latent",), augmented=[5.0])
    SampleSource(augmented, split="train", columns=("image",), augmented=[20.0])
