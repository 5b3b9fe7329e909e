"""Lost and damaged shards come back with the bytes that they had."""

import pytest

from data_prep.repair import repair, set_aside
from data_prep.report.verification import verify
from tests.data_prep.pack.test_repack import with_latents
from tests.helpers.prepare import hashes, prepare_folder, tiny_preparation
from zoomldm.data.manifest import Manifest
from zoomldm.data.shards import column_path


def tar_of(manifest, column):
    return column_path(manifest.root / manifest.shards[0].path, column)


def flip(path):
    content = bytearray(path.read_bytes())
    content[700] ^= 1
    path.write_bytes(content)


def test_prepare_makes_a_lost_tar_again_and_nothing_else(slides, tmp_path, capsys):
    manifest = with_latents(prepare_folder(slides, tmp_path / "data"))
    before = hashes(manifest.root)
    lost = tar_of(manifest, "image")
    times = {name: (manifest.root / name).stat().st_mtime_ns for name in before}
    lost.unlink()
    again = prepare_folder(slides, tmp_path / "data")
    assert "image.tar: missing or cut; it is made again" in capsys.readouterr().out
    assert hashes(manifest.root) == before
    assert [n for n, t in times.items() if (manifest.root / n).stat().st_mtime_ns != t] == [
        str(lost.relative_to(manifest.root))
    ]
    assert again == manifest  # the latents with it
    assert verify(again) == []


@pytest.mark.parametrize("column", ["image", "grid", "meta"])
def test_repair_makes_a_damaged_tar_again(slides, tmp_path, column):
    manifest = prepare_folder(slides, tmp_path / "data")
    before = hashes(manifest.root)
    flip(tar_of(manifest, column))
    assert verify(manifest)
    preparation = tiny_preparation(slides, tmp_path / "data", specs=[])  # the slides are known
    assert [line for line in repair(preparation, manifest) if f"{column}.tar: made again" in line]
    assert hashes(manifest.root) == before
    assert verify(Manifest.load(manifest.root)) == []


def test_repair_says_which_slides_must_be_read_again(slides, tmp_path):
    manifest = prepare_folder(slides, tmp_path / "data", drop_images=True)
    before = hashes(manifest.root)
    flip(tar_of(manifest, "image"))
    (said,) = repair(tiny_preparation(slides, tmp_path / "data"), manifest)
    assert "must be read again" in said
    assert "run prepare.py as before" in said
    (kept,) = set_aside(manifest, verify(manifest), delete=True)
    assert "image.tar.damaged: kept until its tar is there again" in kept
    prepare_folder(slides, tmp_path / "data")
    assert hashes(manifest.root) == before
    assert "repair=true removes it" in set_aside(manifest, verify(manifest), delete=False)[0]
    assert "removed, its tar is whole again" in set_aside(manifest, verify(manifest), delete=True)[0]
    assert not list(manifest.root.rglob("*.damaged"))


def test_latents_and_an_index_are_mended(slides, tmp_path):
    manifest = with_latents(prepare_folder(slides, tmp_path / "data"))
    before = hashes(manifest.root)
    flip(tar_of(manifest, "latent"))
    (manifest.root / f"{manifest.shards[0].path}.meta.index.npy").write_bytes(b"junk")
    said = repair(tiny_preparation(slides, tmp_path / "data"), manifest)
    assert [line for line in said if "latents.py" in line]
    assert [line for line in said if "its index was made again" in line]
    assert verify(with_latents(Manifest.load(manifest.root))) == []
    assert hashes(manifest.root) == before
