"""export=h5: bags that TRIDENT's and CLAM's readers take."""

import io
from dataclasses import replace

import h5py
import numpy as np
import pytest

from data_prep.export.features import _short, export_features
from data_prep.work.store import SlideStore
from tests.helpers.prepare import prepare_folder, samples_of, tiny_preparation
from zoomldm.errors import ConfigError, DataError


def test_a_bag_holds_what_the_grids_hold_at_the_same_places(tiny_slide, tmp_path, capsys):
    for number, (name, mpp) in enumerate((("a", 0.25), ("b", 0.5), ("c", 0.33))):
        tiny_slide(name, seed=number, mpp=mpp, width=700, height=500)
    (tmp_path / "slides" / "junk.tif").write_bytes(b"junk")
    root = tmp_path / "data"
    manifest = prepare_folder(tmp_path / "slides", root)
    folder = export_features(tiny_preparation(tmp_path / "slides", root))
    assert folder == root / "h5" / "20x_16px_0px_overlap" / "features_stats"
    assert "3 slides written, 0 were there, 0 without a tile, 1 not prepared" in capsys.readouterr().out
    bags = {}
    for name, scan, side in (("a", 40, 32), ("b", 20, 16), ("c", 30.3, 24)):
        with h5py.File(folder / f"{name}.h5") as stored:
            features, coords = stored["features"], stored["coords"]
            attrs = dict(coords.attrs)
            assert (features.dtype, coords.dtype) == (np.float32, np.int64)
            assert features.shape == (len(coords), manifest.encoder.dim)
            assert features.attrs["name"] == attrs.pop("name") == name
            assert attrs.pop("savetodir") == str(folder)
            assert attrs.pop("mpp_level0") > 0
            told = {"patch_size": 16, "patch_size_level0": side, "level0_magnification": scan}
            assert attrs == told | {"target_magnification": 20, "overlap": 0}
            bags[name] = dict(zip(map(tuple, coords[:].tolist()), features[:], strict=True))
    checked = 0
    for _, meta, fields in samples_of(manifest):
        if meta.magnification == 20.0:
            cells, rows = (np.load(io.BytesIO(fields["grid"][f])) for f in ("cells.npy", "rows.npy"))
            if cells[0, 0]:
                assert np.array_equal(bags[meta.slide][meta.x_px0, meta.y_px0], rows[cells[0, 0]].astype(np.float32))
                checked += 1
    assert checked > 100


def test_files_that_are_there_stay_and_others_are_made_again(slides, tmp_path, capsys):
    root = tmp_path / "data"
    preparation = tiny_preparation(slides, root)
    with pytest.raises(DataError, match="no slide is prepared there"):
        export_features(preparation)
    assert not root.exists()
    prepare_folder(slides, root)
    folder = export_features(preparation)
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}
    assert sorted(before) == ["a.h5", "b.h5", "c.h5"]
    (folder / "a.h5").write_bytes(before["a.h5"][1][:500])  # cut
    (folder / "b.h5").unlink()
    export_features(preparation)
    assert "2 slides written, 1 were there" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {k: v[1] for k, v in before.items()}
    assert (folder / "c.h5").stat().st_mtime_ns == before["c.h5"][0]
    store = SlideStore(root, "c")
    state = store.done()
    store.write_state(replace(state, file=replace(state.file, quick_hash="another")))
    export_features(preparation)
    assert "1 slide written, 2 were there" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="another configuration"):
        export_features(tiny_preparation(slides, root, min_tissue=0.7))


def test_bounds_within_level_0_move_the_coordinates(slides, tmp_path):
    root = tmp_path / "data"
    preparation = tiny_preparation(slides, root)
    prepare_folder(slides, root)
    plain = h5py.File(export_features(preparation) / "a.h5")["coords"][:]
    store = SlideStore(root, "a")
    shift = np.array([7, 11])
    samples = [store.samples(k) for k in range(4)]
    store.save_samples(
        store.cells(), store.focus(), [replace(rung, corner_px0=rung.corner_px0 + shift) for rung in samples]
    )
    state = store.done()
    moved = replace(state.scale, origin_level=(7, 11))
    store.write_state(replace(state, scale=moved, file=replace(state.file, quick_hash="moved")))
    assert np.array_equal(h5py.File(export_features(preparation) / "a.h5")["coords"][:], plain + shift)


@pytest.mark.parametrize(("said", "short"), [(20, 20), (20.0, 20), (39.98, 40), (22.5, 22.5)])
def test_magnifications_are_whole_numbers_where_they_are_near_one(said, short):
    assert repr(_short(said)) == repr(short)
