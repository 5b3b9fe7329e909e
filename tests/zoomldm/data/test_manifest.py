import json

import pytest

from tests.helpers.toy_data import make_toy_data
from zoomldm.data.manifest import Manifest
from zoomldm.errors import DataError


@pytest.fixture
def manifest(tmp_path):
    return make_toy_data(tmp_path / "toy")


def edit(root, **values):
    path = root / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_it_comes_back_with_the_same_hash(manifest):
    again = Manifest.load(manifest.root)
    assert again == manifest
    assert again.sha256 == manifest.sha256
    assert json.loads((manifest.root / "manifest.json").read_text())["kind"] == "zoomldm-data"


def test_magnifications_counts_and_shards(manifest):
    assert manifest.magnifications == manifest.ladder.magnifications
    for magnification in manifest.magnifications:
        total = sum(shard.num_samples for shard in manifest.shards_of("train", magnification))
        assert total == manifest.count("train", magnification) > 0
    assert manifest.count("validation", 20.0) == 0


def test_no_data_set_names_the_folder_and_the_command(tmp_path):
    with pytest.raises(DataError, match=r"brca_8mag: no data set there.*prepare\.py data=brca_8mag"):
        Manifest.load(tmp_path / "brca_8mag")


@pytest.mark.parametrize("change", [{"format_version": 99}, {"kind": "other"}])
def test_another_format_is_refused(manifest, change):
    edit(manifest.root, **change)
    with pytest.raises(DataError, match="this code reads"):
        Manifest.load(manifest.root)


@pytest.mark.parametrize("content", ["", "[1]", "{", "[" * 100_000])
def test_a_damaged_manifest_is_refused(manifest, content):
    (manifest.root / "manifest.json").write_text(content)
    with pytest.raises(DataError, match="cannot be read"):
        Manifest.load(manifest.root)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"colour": "blue"}, "colour"),
        ({"counts": 5}, "counts"),
        ({"counts": {"train": {"20x": None}}}, r"counts\.train\.20x"),
        ({"shards": {}}, "shards"),
        ({"shards": [{"split": "train"}]}, r"shards\[0\]"),
        ({"encoder": None}, "encoder"),
        ({"ladder": {"patch_px": 1, "num_rungs": 2, "base_magnification": 20, "base_mpp": 0.5}}, "ladder"),
        ({"columns": {"image": {}}}, r"columns\.image\.format"),
        ({"patients": []}, "patients"),
    ],
)
def test_a_field_that_is_unknown_or_of_another_type_is_refused(manifest, change, said):
    edit(manifest.root, **change)
    with pytest.raises(DataError, match=rf"manifest\.json: damaged .*{said}.*delete it and run the same prepare\.py"):
        Manifest.load(manifest.root)


@pytest.mark.parametrize("change", [{"split": "both"}, {"magnification": 21}])
def test_a_shard_of_no_split_or_magnification_is_refused(manifest, change):
    shards = json.loads((manifest.root / "manifest.json").read_text())["shards"]
    edit(manifest.root, shards=[shards[0] | change, *shards[1:]])
    with pytest.raises(DataError, match="is of no split or magnification"):
        Manifest.load(manifest.root)


def test_another_encoder_is_refused_naming_both(manifest):
    manifest.check_encoder(manifest.encoder.name)
    with pytest.raises(DataError, match=rf"encoder={manifest.encoder.name}.*encoder=hipt"):
        manifest.check_encoder("hipt")


def test_a_missing_column_names_the_command_that_adds_it(manifest):
    manifest.check_columns(["image", "latent"])
    del manifest.columns["latent"]
    with pytest.raises(DataError, match=r"no latent column.*latents\.py"):
        manifest.check_columns(["image", "latent"])


def test_exclusions(manifest):
    assert manifest.excluded() == frozenset()
    (manifest.root / "exclude.txt").write_text("p0train  # withdrawn\n\n# nothing\ns1.test\n")
    assert manifest.excluded() == {"p0train", "s1.test"}
