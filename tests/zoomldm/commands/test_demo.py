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
        (["plan=true"], [SHARDS]),
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


def test_what_is_made_first_computes_on_all_cores_too(tmp_path, monkeypatch, made):
    steps = []
    monkeypatch.setattr(demo, "run_step", steps.append)
    monkeypatch.setattr(demo, "on_this_machine", lambda todo: [demo.replace(one, argv=("here",)) for one in todo])
    make(tmp_path, "model=autoencoder_tiny")
    assert [step.argv for step in steps] == [("here",)]


def test_more_devices_than_there_are_is_said_before_anything_is_made(tmp_path, made):
    with pytest.raises(ConfigError, match=r"fabric\.devices=999: that many processes"):
        make(tmp_path, "fabric=cpu", "fabric.devices=999")
    assert made == []


@pytest.mark.parametrize(
    ("gpu", "cores", "flags", "words"),
    [
        (False, {0, 1}, "flags: avx512 amx_bf16", ["fabric=ddp", "fabric.precision=bf16-mixed"]),
        (False, {0, 1}, "flags: avx2", ["fabric=ddp"]),
        (False, {0}, "flags: amx_bf16", []),
        (True, {0, 1}, "flags: amx_bf16", []),
    ],
)
def test_all_cores_of_this_machine_train(monkeypatch, tmp_path, gpu, cores, flags, words):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(demo.os, "sched_getaffinity", lambda pid: cores)
    (tmp_path / "cpuinfo").write_text(flags)
    monkeypatch.setattr(demo, "Path", lambda name: tmp_path / "cpuinfo")
    before = demo.steps()
    after = {step.title: step.argv[len(plain.argv) :] for plain, step in zip(before, demo.on_this_machine(before))}
    assert list(after["ZoomLDM"]) == words
    assert list(after["autoencoder"]) == words[:1]
    assert list(after["slides to shards"]) == []
