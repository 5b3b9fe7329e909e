"""What a training on the demo's data stands on is made first; what a user named is not."""

import pytest

from zoomldm import cli, composing
from zoomldm.commands import demo
from zoomldm.errors import ConfigError


@pytest.fixture
def made(monkeypatch):
    monkeypatch.setenv("PROJECT_ROOT", str(cli.PROJECT_ROOT))
    titles = []
    monkeypatch.setattr(demo, "run_step", lambda step: titles.append(step.title))
    monkeypatch.setattr(demo.Step, "is_done", lambda step, **_: step.title in titles)
    return titles


def make(tmp_path, *words):
    demo.make_what_is_missing(composing.planned("train", [*words, f"paths.root={tmp_path}"]).jobs)


SHARDS, AUTOENCODER, LATENTS, ZOOMLDM = [step.title for step in demo.steps()][:4]


@pytest.mark.parametrize(
    ("words", "titles"),
    [
        (["model=autoencoder_tiny"], [SHARDS]),
        ([], [SHARDS, AUTOENCODER, LATENTS]),
        (["cond=none"], [SHARDS, AUTOENCODER, LATENTS]),
        (["autoencoder.run=mine"], [SHARDS]),
        (["model=edm_tiny"], [SHARDS, AUTOENCODER, LATENTS, ZOOMLDM]),
        (["model=edm_tiny", "zoomldm.run=mine"], [SHARDS]),
        (["-m", "model=zoomldm_tiny,edm_tiny"], [SHARDS, AUTOENCODER, LATENTS]),
        (["data=pyramid"], [SHARDS, AUTOENCODER, LATENTS]),
        (["data=reference"], []),
        (["data.name=other"], []),
        (["data.slides=folder"], []),
    ],
)
def test_what_is_made_first(tmp_path, made, words, titles):
    make(tmp_path, *words)
    assert made == titles


def test_where_things_lie_is_carried_on(tmp_path, monkeypatch, made):
    steps = []
    monkeypatch.setattr(demo, "run_step", steps.append)
    make(tmp_path, "model=autoencoder_tiny")
    assert steps[0].argv[-1] == f"paths.root={tmp_path}"


def test_more_devices_than_there_are_is_said_before_anything_is_made(tmp_path, made):
    with pytest.raises(ConfigError, match=r"fabric\.devices=999: that many processes"):
        make(tmp_path, "fabric=cpu", "fabric.devices=999")
    assert made == []
