"""From the configuration to a preparation, and what it refuses."""

import pytest
from omegaconf import OmegaConf

from data_prep.prepare import parse_part, prepare
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
        ({"data.min_samples": {"train": 1}}, r"data\.min_samples\.test=None"),
        ({"tissue.chroma_flor": 1}, "did you mean 'chroma_floor'"),
        ({"data.image_format": "gif"}, "expected png or jpeg"),
        ({"part": "17/16"}, "expected a share such as 3/16"),
        ({"executor": "dask"}, "executor=dask"),
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


def test_a_part_is_read_as_number_and_total():
    assert parse_part("3/16") == (3, 16)
    assert parse_part(None) is None
