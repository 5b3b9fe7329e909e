import json

import numpy as np
import pytest

from data_prep.columns.latent import LatentMaker, add_latents
from data_prep.report.verification import verify
from tests.helpers.prepare import prepare_folder
from tests.helpers.toy_data import make_toy_data
from zoomldm.data.manifest import Manifest
from zoomldm.data.schema import decode_image, decode_npy
from zoomldm.data.shards import ShardReader
from zoomldm.errors import ConfigError, DataError


def encode(images):
    """Average 2x2 boxes: (n, 8, 8, 3) -> (n, 3, 4, 4)."""
    boxes = images.astype(np.float32).reshape(len(images), 4, 2, 4, 2, 3).mean((2, 4))
    return boxes.transpose(0, 3, 1, 2) / 127.5 - 1


@pytest.fixture
def manifest(tmp_path):
    return make_toy_data(tmp_path / "toy", columns=("image", "grid", "meta"))


def add(manifest, encode=encode, sha="abc", repack=False, **options):
    options = {"is_original": False, "batch_size": 7} | options
    return add_latents(manifest, LatentMaker(encode=encode, sha256=sha, source="run", **options), repack=repack)


def test_latents_lie_beside_their_images(manifest):
    add(manifest)
    found = Manifest.load(manifest.root)
    assert verify(found) == []
    values = []
    for shard in found.shards:
        reader = ShardReader(found.root, shard.path, ["image", "latent"])
        for position in range(len(reader)):
            columns = reader.read(position)
            latent = decode_npy(columns["latent"]["latent.npy"])
            assert np.array_equal(latent, encode(decode_image(columns["image"]["png"])[None])[0].astype(np.float16))
            if shard.split == "train":
                values.append(latent.astype(np.float64))
    facts = found.columns["latent"]
    assert facts["std"] == pytest.approx(np.std(values))
    assert facts["scale"] == pytest.approx(1 / np.std(values))
    assert facts["shape"] == [3, 4, 4]
    assert (facts["source"], facts["autoencoder_sha256"]) == ("run", "abc")


def test_published_weights_keep_the_scale_of_one(manifest):
    assert add(manifest, is_original=True).columns["latent"]["scale"] == 1.0


def test_batches_have_a_constant_shape(manifest):
    sizes = []

    def counted(images):
        sizes.append(len(images))
        return encode(images)

    add(manifest, counted, batch_size=8)
    assert set(sizes) == {8}


def test_interrupted_it_goes_on_and_again_it_does_nothing(manifest, capsys):
    calls = []

    def breaks(images):
        calls.append(len(images))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return encode(images)

    with pytest.raises(KeyboardInterrupt):
        add(manifest, breaks)
    assert "latent" not in Manifest.load(manifest.root).columns
    calls.clear()
    add(Manifest.load(manifest.root), lambda images: calls.append(1) or encode(images))
    total = sum(-(-shard.num_samples // 7) for shard in manifest.shards)
    assert 0 < len(calls) < total
    add(Manifest.load(manifest.root), lambda images: pytest.fail("encoded twice"))
    assert "nothing to do" in capsys.readouterr().out


def test_finished_latents_are_replaced_only_where_that_is_agreed(manifest):
    add(manifest)
    with pytest.raises(ConfigError, match=r"9 finished tars of 9 shards \(9 of latent\).*repack=true"):
        add(Manifest.load(manifest.root), sha="other")
    assert verify(Manifest.load(manifest.root)) == []


def test_latents_that_the_manifest_lost_when_slides_came_are_asked_about_too(manifest):
    add(manifest)
    Manifest.load(manifest.root).without("latent").save(manifest.root)
    with pytest.raises(ConfigError, match=r"9 finished tars"):
        add(Manifest.load(manifest.root), sha="other")
    add(Manifest.load(manifest.root), lambda images: pytest.fail("made anew"))


def test_what_another_command_left_half_done_is_not_taken(manifest):
    add(manifest)
    (manifest.root / "shards.new/train/20x").mkdir(parents=True)
    (manifest.root / "shards.new/train/20x/00000.image.tar").write_bytes(b"of other shards")
    found = add(Manifest.load(manifest.root), lambda images: 2 * encode(images), sha="other", repack=True)
    assert verify(found) == []


def test_old_latents_stay_until_all_the_new_ones_are_whole(manifest):
    add(manifest)
    calls = []

    def breaks(images):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return 2 * encode(images)

    with pytest.raises(KeyboardInterrupt):
        add(Manifest.load(manifest.root), breaks, sha="other", repack=True)
    found = Manifest.load(manifest.root)
    assert verify(found) == []
    assert found.columns["latent"]["autoencoder_sha256"] == "abc"
    found = add(found, lambda images: 2 * encode(images), sha="other", repack=True)
    assert found.columns["latent"]["autoencoder_sha256"] == "other"
    assert verify(found) == []


def test_another_autoencoder_replaces_every_latent(manifest):
    add(manifest)
    add(Manifest.load(manifest.root), lambda images: 2 * encode(images), sha="other", repack=True)
    found = Manifest.load(manifest.root)
    assert verify(found) == []
    assert found.columns["latent"]["autoencoder_sha256"] == "other"
    record = json.loads((found.root / f"{found.shards[0].path}.latent.json").read_bytes())
    assert record["autoencoder_sha256"] == "other"


def test_latents_that_are_no_numbers_or_constant_are_refused(manifest):
    with pytest.raises(DataError, match="beyond float16"):
        add(manifest, lambda images: encode(images) * 1e6)
    with pytest.raises(DataError, match="constant"):
        add(manifest, lambda images: np.zeros((len(images), 3, 4, 4)))
    assert "latent" not in Manifest.load(manifest.root).columns


def test_slides_that_were_added_are_the_only_ones_whose_latents_are_made(tiny_slide, tmp_path):
    encoded = []

    def counted(images):
        encoded.append(len(images))
        boxes = images.astype(np.float32).reshape(len(images), 8, 2, 8, 2, 3).mean((2, 4))
        return boxes.transpose(0, 3, 1, 2)

    for number, name in enumerate(("a", "b")):
        path = tiny_slide(name, seed=number, width=400, height=360)
    add(prepare_folder(path.parent, tmp_path / "data"), encode=counted, batch_size=1)
    first = sum(encoded)
    tiny_slide("c", seed=2, width=400, height=360)
    manifest = prepare_folder(path.parent, tmp_path / "data")
    assert "latent" not in manifest.columns
    manifest = add(manifest, encode=counted, batch_size=1)
    assert verify(manifest) == []
    total = sum(shard.num_samples for shard in manifest.shards)
    assert (first < total, sum(encoded)) == (True, total)
