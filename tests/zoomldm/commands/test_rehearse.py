"""The rehearsal from its own configuration; the stages themselves take minutes (make rehearse)."""

import os

import pytest

from zoomldm import composing
from zoomldm.commands.rehearse import Rehearsal, check
from zoomldm.config import PROJECT_ROOT
from zoomldm.errors import ConfigError, UserError
from zoomldm.rehearsal.documents import paper_size_commands
from zoomldm.rehearsal.plan import STAGES
from zoomldm.rehearsal.report import DONE, FAILED, LEFT_OUT, Result


@pytest.fixture
def configured(tmp_path, monkeypatch):
    monkeypatch.setenv("PROJECT_ROOT", str(PROJECT_ROOT))
    for name in ("DATA", "RUNS", "CACHE", "WEIGHTS"):
        monkeypatch.setenv(f"ZOOMLDM_{name}", str(tmp_path))  # given back afterwards

    def make(*words):
        (cfg,) = composing.compose_jobs("rehearse", [f"folder={tmp_path}/scratch", *words])
        return cfg

    return make


def rehearsal_of(cfg, tmp_path):
    return Rehearsal(cfg, tmp_path / "scratch", paper_size_commands(PROJECT_ROOT), composing.planned)


def test_every_documented_command_composes_with_its_cuts_and_keeps_its_name(configured, tmp_path):
    composed = rehearsal_of(configured("accelerator=cpu"), tmp_path).composed()
    assert [stage.title for stage, _ in composed] == [stage.title for stage in STAGES]
    typed = {stage.title: words for stage, words in composed}
    assert "run_name=zoomldm-brca_8mag-film" in typed["ZoomLDM"]
    assert "run_name=edm-brca_8mag-film" in typed["EDM"]
    (edm,) = composing.compose_jobs("train", typed["EDM"])
    assert edm.zoomldm.run == "zoomldm-brca_8mag-film"  # the name that the documented training gives
    assert {"fabric.devices=2", "fabric.accelerator=cpu"} <= set(typed["DDP"])
    assert os.environ["ZOOMLDM_RUNS"] == str(tmp_path / "scratch" / "runs")


def test_a_stage_without_what_it_needs_is_left_out(configured, tmp_path):
    rehearsal = rehearsal_of(configured(), tmp_path)
    latents = next(stage for stage in STAGES if stage.title == "latents")
    lost = Result(title="prepare", command="", state=FAILED)
    assert rehearsal.result(latents, [], [lost]).state == LEFT_OUT


def test_wrong_weights_in_a_slot_give_the_stages_own_message(configured, tmp_path):
    rehearsal = rehearsal_of(configured(), tmp_path)
    latents = next(stage for stage in STAGES if stage.title == "latents")
    result = rehearsal.result(latents, ["data=brca_8mag"], [Result(title="prepare", command="", state=DONE)])
    assert result.state == FAILED
    assert result.message.startswith("error: ")
    assert "no data set there" in result.message


def test_what_cannot_be_rehearsed_is_refused(configured):
    with pytest.raises(ConfigError, match="did you mean 'latents'"):
        check(configured("stages=[latent]"))
    with pytest.raises(UserError, match="no such folder"):
        check(configured("slides=/nowhere/at/all"))
