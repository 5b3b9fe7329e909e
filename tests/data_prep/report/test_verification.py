import dataclasses

import pytest

from data_prep.report.verification import IMAGES_DECODED, verify
from tests.helpers.toy_data import make_toy_data
from zoomldm.data.schema import SampleMeta
from zoomldm.data.shards import ColumnReader, column_path, index_path, write_column
from zoomldm.files import sha256_of


@pytest.fixture
def manifest(tmp_path):
    return make_toy_data(tmp_path / "toy")


def tar_of(manifest, column, number=0):
    return column_path(manifest.root / manifest.shards[number].path, column)


def test_a_whole_data_set_has_no_fault(manifest):
    assert verify(manifest) == []


def flip_a_byte(manifest):
    path = tar_of(manifest, "image")
    content = bytearray(path.read_bytes())
    content[700] ^= 1
    path.write_bytes(content)


def cut(manifest):
    path = tar_of(manifest, "grid")
    path.write_bytes(path.read_bytes()[:-20000])


def swap_keys(manifest):
    path = tar_of(manifest, "meta")
    write_column(path, [("a", {"json": b"{}"}), ("b", {"json": b"{}"})])


def extra(manifest):
    write_column(manifest.root / "shards" / "train" / "20x" / "99999.image.tar", [("a", {"png": b"x"})])


def bad_index(manifest):
    index_path(tar_of(manifest, "meta")).write_bytes(b"junk")


def other_counts(manifest):
    manifest.counts["train"]["20x"] += 1


def patient_in_both(manifest):
    """A training sample's meta names a patient of the test split; sizes and checksums are those of the manifest."""
    tar = tar_of(manifest, "meta")
    reader = ColumnReader(tar, ("json",))
    metas = [SampleMeta.decode(reader[number]["json"]) for number in range(len(reader))]
    reader.close()
    metas[3] = dataclasses.replace(metas[3], patient=manifest.patients["test"][0])
    write_column(tar, [(meta.key, {"json": meta.encode()}) for meta in metas])
    manifest.shards[0].columns["meta"] = {"bytes": tar.stat().st_size, "sha256": sha256_of(tar)}


def listed_in_both(manifest):
    manifest.patients["test"].append(manifest.patients["train"][0])


def other_split(manifest):
    manifest.shards[0] = dataclasses.replace(manifest.shards[0], split="test")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip_a_byte, "image.tar: its checksum"),
        (cut, "grid.tar"),
        (lambda m: tar_of(m, "meta").unlink(), "meta.tar: missing"),
        (swap_keys, "keys of column meta"),
        (extra, "99999.image.tar: not in the manifest"),
        (bad_index, "meta.index.npy"),
        (other_counts, "its shards add up to"),
        (patient_in_both, "says patient p0test, who is not in train"),
        (listed_in_both, "is in train and in test"),
        (other_split, "says"),
    ],
)
def test_every_damage_is_named(manifest, damage, message):
    damage(manifest)
    faults = verify(manifest)
    assert any(message in fault for fault in faults), faults


def test_images_that_were_damaged_before_they_were_packed_are_found(manifest):
    """As after a power cut: zeros where patches were, and shards, checksums and manifest made of them."""
    shard = manifest.shards[0]
    tar = tar_of(manifest, "image")
    reader = ColumnReader(tar, ("png",))
    samples = [(reader.key(number), reader[number]) for number in range(len(reader))]
    reader.close()
    write_column(tar, [(key, {"png": b"\0" * len(fields["png"])}) for key, fields in samples])
    shard.columns["image"] |= {"bytes": tar.stat().st_size, "sha256": sha256_of(tar)}
    faults = verify(manifest)
    assert len(faults) == IMAGES_DECODED
    assert all("cannot be decoded" in fault for fault in faults)
