"""Stored configurations of earlier versions become those of today."""

import pytest
import yaml

from zoomldm import cli, composing
from zoomldm.commands.job import plain
from zoomldm.config import Option, section_of
from zoomldm.diffusion.schedules.base import NoiseSchedule
from zoomldm.errors import ConfigError
from zoomldm.runs.identity import differing_keys
from zoomldm.runs.upgrade import upgraded

SIZES = {"resolution": 64, "widths": [8, 16, 32, 64], "dim": 128, "position_embedding": True}
HUB = "zoomldm.encoder.timm_hub.HubEncoder"
OLD = {
    "cond": {"name": "film", "sizes": SIZES, "position_embedding": True},
    "model": {"name": "zoomldm_tiny", "kind": "zoomldm", "tokens": SIZES},
    "diffusion": {"num_timesteps": 500, "beta_start": 0.001, "beta_end": 0.02, "dropout_p": 0.1},
}


@pytest.mark.parametrize(("stored", "today"), [(True, None), (False, False)])
def test_an_option_stored_by_name_gets_its_class_and_loses_what_is_a_fact_today(stored, today):
    assert upgraded(OLD | {"cond": OLD["cond"] | {"position_embedding": stored}})["cond"] == {
        "_target_": "zoomldm.cond.film.FiLMConditioner",
        "name": "film",
        "position_embedding": today,
        "projection": None,
    }


@pytest.mark.parametrize(
    ("model", "schedule", "solver"),
    [
        ({"kind": "zoomldm"}, "scaled_linear", "ddim"),
        ({"kind": "edm", "arch": "transformer"}, "linear", "ddim"),
        ({"kind": "edm", "arch": "dit"}, "squared_cosine", "ddim_even"),
    ],
)
def test_the_schedule_and_the_solver_of_each_kind_become_options(model, schedule, solver):
    config = upgraded(OLD | {"model": model})
    assert config["diffusion"] == {"dropout_p": 0.1}
    assert (config["schedule"]["name"], config["solver"]["name"]) == (schedule, solver)
    assert Option("schedule", config["schedule"]).make(NoiseSchedule).num_timesteps == 500
    assert config.get("prediction") is None  # neither a U-Net nor a ZoomLDM's tokens are named here
    if schedule != "squared_cosine":
        assert config["schedule"]["beta_end"] == 0.02


def test_there_was_no_interval_of_guidance():
    before = {"steps": 20, "guidance_scale": 1.75}
    assert upgraded(OLD | {"sampling": before})["sampling"] == before | {"guidance_interval": None}
    assert differing_keys({"sampling": before}, {"sampling": before | {"guidance_interval": None}}) == {}
    assert differing_keys({"sampling": before}, {"sampling": before | {"guidance_interval": [0, 1]}})


@pytest.mark.parametrize("model", ["zoomldm_tiny", "edm_tiny", "autoencoder_tiny"])
def test_a_configuration_of_today_stays_as_it_is(model, monkeypatch):
    monkeypatch.setenv("PROJECT_ROOT", str(cli.PROJECT_ROOT))
    (cfg,) = composing.compose_jobs("train", [f"model={model}"])
    config = plain(cfg)
    assert differing_keys(upgraded(config), config) == {}


@pytest.mark.parametrize(("section", "said"), [("unet", "eps"), ("zoomldm", "x0")])
def test_what_was_predicted_before_it_was_a_choice(section, said):
    config = upgraded({section: {"some": "thing"}, "prediction": None})
    assert config["prediction"] == section_of("prediction", said)
    chosen = {section: {"some": "thing"}, "prediction": section_of("prediction", "v")}
    assert upgraded(chosen)["prediction"]["name"] == "v"


def test_an_option_builds_on_another():
    assert section_of("solver", "ddim_even") == section_of("solver", "ddim") | {
        "name": "ddim_even",
        "spacing": "even",
        "last_alpha_bar": 1.0,
    }


def test_an_option_that_is_gone_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="cond=flim.*did you mean 'film'"):
        upgraded({"cond": {"name": "flim"}})


WORDS_OF_THEN = {
    "autoencoder_tiny-demo": ["model=autoencoder_vq_tiny", "model.name=autoencoder_tiny"],
    "zoomldm_tiny-demo-film": [
        *("model=zoomldm_tiny", "prediction=eps", "prediction.min_snr_gamma=null", "prediction.snr_floor=null"),
        *("model.latent_channels=3", "unet.model_channels=48", "optim.batch_size=64", "optim.max_micro_batch=64"),
        *("train.steps=600", "train.validate_every=200", "train.sample_every=300", "train.checkpoint_every=200"),
    ],
    "edm_tiny-demo-film": [
        *("model=edm_tiny", "model.latent_channels=3", "optim.lr=0.001", "sampling.guidance_scale=1.75"),
        "schedule=linear",
    ],
}


@pytest.mark.parametrize("name", list(WORDS_OF_THEN))
def test_a_run_of_the_first_layout_goes_on(name, monkeypatch):
    """The demo's runs as version 1 stored them are those that the demo's settings of then make today."""
    monkeypatch.setenv("PROJECT_ROOT", "/home/user/zoomldm")
    stored = yaml.safe_load((cli.PROJECT_ROOT / "tests" / "data" / "format1" / f"{name}.yaml").read_text())
    (cfg,) = composing.compose_jobs("train", WORDS_OF_THEN[name])
    assert differing_keys(upgraded(stored), plain(cfg)) == {}


def test_descriptors_that_were_shown_by_name_become_options():
    old = {"features": {"name": "texture", "also": ["stats"], "weights": None, "batch_size": 64}}
    assert upgraded(old)["features"] == section_of("features", "texture")
    assert upgraded(old)["features"]["also"]["stats"]["_target_"] == "zoomldm.features.stats.StatsDescriptor"


def test_a_stored_encoder_keeps_its_values_and_gets_its_recipe():
    old = {"name": "uni", "weights": "/w/UNI", "batch_size": 8, "device": "cpu", "tiles": {"px": 256, "mpp": 0.5}}
    encoder = upgraded({"encoder": old})["encoder"]
    assert (encoder["weights"], encoder["batch_size"], encoder["dim"]) == ("/w/UNI", 8, 1024)
    assert "tiles" not in encoder


def test_a_key_that_came_later_is_what_its_yaml_says():
    film = {key: value for key, value in section_of("cond", "film").items() if key != "projection"}
    uni = section_of("features", "uni") | {"encoder": {"_target_": HUB, "name": "uni", "weights": "/w", "dim": 9}}
    config = upgraded(
        {"cond": film, "features": uni, "schedule": section_of("schedule", "linear") | {"beta_end": 0.01}}
    )
    assert config["cond"] == section_of("cond", "film")
    assert config["schedule"]["beta_end"] == 0.01
    encoder = config["features"]["encoder"]
    assert (encoder["weights"], encoder["dim"], encoder["pooling"]) == ("/w", 9, "class")


def test_options_of_others_and_of_another_class_stay_as_they_were_stored():
    for cond in ({"_target_": "mine.Film", "name": "film"}, {"_target_": "mine.Mean", "name": "mine"}):
        assert upgraded({"cond": cond})["cond"] == cond
