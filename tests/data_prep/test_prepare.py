"""From the configuration to a preparation, and what it refuses."""

import pytest
from omegaconf import OmegaConf

from data_prep.prepare import parse_part, prepare
from data_prep.work.store import SlideStore
from zoomldm.composing import compose_jobs
from zoomldm.errors import ConfigError


def config_of(root, slides, **values):
    cfg = compose_jobs("prepare", ["data=demo"])[0]
    OmegaConf.set_struct(cfg, False)
    cfg.data.update(root=str(root), demo_slides=None, min_samples={"train": 1, "test": 0})
    cfg.update(slides=str(slides) if slides else None, executor="serial", **values)
    return cfg


def test_the_demos_configuration_prepares_a_folder(slides, tmp_path):
    manifest = prepare(config_of(tmp_path / "data", slides))
    assert manifest.ladder.patch_px == 32
    assert 20.0 in manifest.magnifications


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data.min_tissue": {"3": 0.5}}, "data.min_tissue: magnification=3"),
        ({"data.min_tissue": 2}, "expected a number from 0 to 1"),
        ({"data.stride": {"20": 0, "default": 1}}, r"data\.stride\.20x=0"),
        ({"data.stride": {"20": 1, "10": 1}}, r"data\.stride: nothing for 5x, 2\.5x.* as default"),
        ({"data.max_patches_per_slide": {"default": None, "test": {"20": 0, "default": 1}}}, r"slide\.test\.20x=0"),
        ({"data.min_samples": {"train": 1}}, r"data\.min_samples\.test=None"),
        ({"tissue.chroma_flor": 1}, "did you mean 'chroma_floor'"),
        ({"data.image_format": "gif"}, "expected png or jpeg"),
        ({"part": "17/16"}, "expected a share such as 3/16"),
        ({"executor": "dask"}, "executor=dask"),
        ({"export": "zarr"}, "export=zarr: expected h5"),
        ({"slides": None}, "which slides"),
    ],
)
def test_senseless_settings_are_refused_with_their_key(slides, tmp_path, change, message):
    cfg = config_of(tmp_path / "data", slides)
    for key, value in change.items():
        OmegaConf.update(cfg, key, value, force_add=True, merge=False)
    with pytest.raises(ConfigError, match=message):
        prepare(cfg)
    assert not (tmp_path / "data").exists() or not list((tmp_path / "data").iterdir())


def test_a_slide_may_have_a_tissue_preset_of_its_own(slides, tmp_path):
    """What its line says decides its work: another preset, and that slide is read again, once that is agreed."""
    table, data = tmp_path / "t.csv", tmp_path / "data"
    lines = [f"{slides / name}.tif,{preset}" for name, preset in (("a", "biopsy"), ("b", ""))]

    def prepared(first, **values):
        table.write_text("\n".join(["path,tissue_preset", first, lines[1]]))
        prepare(config_of(data, table, **values))
        return [SlideStore(data, name).done() for name in "ab"]

    a, b = prepared(lines[0])
    assert a.told["tissue"]["name"] == "biopsy"
    assert a.told["tissue"]["min_object_um2"] == 5000
    assert b.told == {}
    assert prepared(lines[0]) == [a, b]
    with pytest.raises(ConfigError, match="slide a: its tissue preset is another, so that it is read again"):
        prepared(f"{slides}/a.tif,fatty")
    again, same = prepared(f"{slides}/a.tif,fatty", repack=True)
    assert (again.told["tissue"]["name"], same) == ("fatty", b)
    assert again.tissue != a.tissue
    with pytest.raises(ConfigError, match=r"tissue=fat: no such option.*did you mean 'fatty'"):
        prepared(f"{slides}/a.tif,fat")


def test_lines_that_the_table_excludes_are_counted_aloud(slides, tmp_path, capsys):
    table = tmp_path / "t.csv"
    lines = [f"{slides}/a.tif,", f"{slides}/b.tif,", f"{slides}/c.tif,yes"]
    table.write_text("\n".join(["path,exclude", *lines]))
    manifest = prepare(config_of(tmp_path / "data", table))
    words = f"1 line of the slide table left out by its own column: {slides}/c.tif"
    assert words in capsys.readouterr().out
    assert words in (tmp_path / "data" / "qc" / "index.html").read_text()
    assert [line["slide"] for line in manifest.slides] == ["a", "b"]


def test_a_part_is_read_as_number_and_total():
    assert parse_part("3/16") == (3, 16)
    assert parse_part(None) is None
