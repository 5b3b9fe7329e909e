"""The reference model's steps are commands that compose, on data and models of its own."""

import pytest

from zoomldm import cli, composing
from zoomldm.commands import reference
from zoomldm.commands.check import check_train, stage_in
from zoomldm.errors import ConfigError, UserError


@pytest.fixture(autouse=True)
def project_root(monkeypatch):
    monkeypatch.setenv("PROJECT_ROOT", str(cli.PROJECT_ROOT))


def compose(*words):
    (cfg,) = composing.compose_jobs("reference", words)
    return cfg


def test_every_step_composes_and_the_models_fit_each_other():
    data = reference._data(compose("patients=5"))
    stages = []
    for step in reference.steps(data):
        script, *words = step.argv
        (job,) = composing.planned(script.rpartition("/")[2].removesuffix(".py"), words).jobs
        assert (job.cfg.data.name, job.cfg.data.demo_slides.num_patients) == ("reference", 5)
        if "train" in script:
            stage = stage_in(job.cfg)
            stages.append(stage)
            assert step.makes == "-".join(stage.stem)
    autoencoder, plain, told, edm = stages
    assert plain.latent_channels == told.latent_channels == autoencoder.latent_channels
    assert plain.stands_on == (("autoencoder", "-".join(autoencoder.stem)),)
    assert told.stands_on == (*plain.stands_on, ("zoomldm", "-".join(plain.stem)))
    assert edm.stands_on == (("zoomldm", "-".join(plain.stem)),)  # whose conditioner the other keeps
    assert tuple(("-".join(stage.stem), stage.kind) for stage in stages) == reference.TRAININGS


def test_it_draws_other_patients_than_the_demo_into_a_folder_of_its_own():
    ours, demos = (composing.compose_jobs("prepare", [f"data={name}"])[0].data for name in ("reference", "demo"))
    assert ours.root != demos.root
    assert ours.demo_slides.folder != demos.demo_slides.folder
    assert ours.demo_slides.seed != demos.demo_slides.seed


@pytest.mark.parametrize(("words", "reason"), [(["patients=1"], "2 or more"), (["growth=-1"], "0 or more")])
def test_senseless_numbers_are_refused(words, reason):
    with pytest.raises(ConfigError, match=reason):
        reference.check(compose(*words))


def test_a_model_that_is_trained_already_is_not_trained():
    (cfg,) = composing.compose_jobs("train", ["model=reference"])
    with pytest.raises(ConfigError, match="is no Stage"):
        check_train(cfg)


def test_what_is_not_trained_is_not_packed(tmp_path):
    with pytest.raises(UserError, match="autoencoder_reference-reference"):
        reference.check(compose("pack=true", f"paths.root={tmp_path}"))
