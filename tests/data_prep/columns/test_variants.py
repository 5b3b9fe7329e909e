"""Turned latents are the latents of turned patches."""

import numpy as np
import pytest

from data_prep.columns.variants import add_variants
from tests.helpers.toy_data import make_toy_data
from zoomldm.data.dihedral import transformed
from zoomldm.data.manifest import Manifest
from zoomldm.data.reader import SampleSource
from zoomldm.errors import DataError


def encode(images):
    """Stand in for an autoencoder: the mean of each 2 × 2 pixels, signed by its place, so that turning matters."""
    n, p, _, c = images.shape
    pooled = images.reshape(n, p // 2, 2, p // 2, 2, c).mean(axis=(2, 4)).transpose(0, 3, 1, 2) / 256
    return pooled * np.linspace(0.5, 1.5, p // 2)


def test_variants_are_the_latents_of_turned_patches(tmp_path):
    make_toy_data(tmp_path)
    add_variants(Manifest.load(tmp_path), encode, [5.0])
    source = SampleSource(tmp_path, split="train", columns=("image", "latent"), augmented=[5.0])
    plain = source.read([2], [6]).image[0].permute(1, 2, 0).numpy()
    for variant in range(1, 8):
        batch = source.read([2], [6], variant=np.array([variant]))
        expected = encode(transformed(plain, variant, axes=(0, 1))[None])[0].astype(np.float16)
        assert np.array_equal(batch.latent[0].numpy(), expected)
        assert np.array_equal(encode(batch.image.permute(0, 2, 3, 1).numpy())[0].astype(np.float16), expected)


def test_variants_are_made_once_for_the_magnifications_asked_for(tmp_path):
    make_toy_data(tmp_path)
    add_variants(Manifest.load(tmp_path), encode, [5.0])
    calls = []
    add_variants(Manifest.load(tmp_path), lambda images: calls.append(len(images)) or encode(images), [5.0, 10.0])
    assert sum(calls) == 20 * 7
    having = {s.magnification for s in Manifest.load(tmp_path).shards if "variants" in s.columns}
    assert having == {5.0, 10.0}


def test_a_killed_run_goes_on_where_it_stopped(tmp_path):
    make_toy_data(tmp_path)
    calls = []

    def breaks(images):
        calls.append(len(images))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(images)

    with pytest.raises(KeyboardInterrupt):
        add_variants(Manifest.load(tmp_path), breaks, [20.0])
    assert "variants" not in Manifest.load(tmp_path).columns
    calls.clear()
    add_variants(Manifest.load(tmp_path), lambda images: calls.append(len(images)) or encode(images), [20.0])
    assert sum(calls) == (40 - 2 * 16) * 7
    SampleSource(tmp_path, split="train", columns=("latent",), augmented=[20.0])


def test_variants_of_other_latents_are_made_again(tmp_path):
    make_toy_data(tmp_path)
    manifest = add_variants(Manifest.load(tmp_path), encode, [5.0])
    manifest.columns["latent"]["autoencoder_sha256"] = "new"
    manifest.save(tmp_path)
    with pytest.raises(DataError, match="another autoencoder"):
        SampleSource(tmp_path, split="train", columns=("latent",), augmented=[5.0])
    add_variants(Manifest.load(tmp_path), encode, [5.0])
    SampleSource(tmp_path, split="train", columns=("latent",), augmented=[5.0])


def test_without_latents_there_are_no_variants(tmp_path):
    manifest = make_toy_data(tmp_path, columns=("image", "grid", "meta"))
    with pytest.raises(DataError, match="no latents yet"):
        add_variants(manifest, encode, [5.0])
