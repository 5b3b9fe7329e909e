"""Every option of every group and every experiment composes; combinations without sense are refused with a reason."""

import importlib.util
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from data_prep.settings import from_config
from zoomldm import cli, composing
from zoomldm.commands.check import combination_faults, stage_in
from zoomldm.commands.register import register
from zoomldm.commands.train import run_name_of
from zoomldm.errors import ConfigError

CONF = composing.CONF
GROUPS = (
    "model", "data", "encoder", "cond", "label", "curriculum", "schedule", "solver", "training", "fabric", "tracking",
    "features",
)  # fmt: skip


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


@pytest.fixture(autouse=True)
def project_root(monkeypatch):
    monkeypatch.setenv("PROJECT_ROOT", str(cli.PROJECT_ROOT))


def test_the_groups_of_the_readme_have_their_options():
    expected = {
        "model": {"zoomldm", "zoomldm_small", "zoomldm_tiny", "edm", "edm_tiny", "autoencoder", "autoencoder_tiny"},
        "data": {"brca_8mag", "demo"},
        "encoder": {"hipt", "ctranspath", "stats"},
        "cond": {"film", "cnn", "mag", "pool", "none"},
        "label": {"class", "vector", "tissue"},
        "curriculum": {"uniform", "proportional", "tempered", "coarse_to_fine", "fine_to_coarse"},
        "schedule": {"scaled_linear", "linear", "squared_cosine", "zero_terminal"},
        "solver": {"ddim", "ddim_even", "ddpm", "dpmpp"},
        "training": {"unified", "single"},
        "fabric": {"auto", "cpu", "gpu", "ddp"},
        "tracking": {"mlflow", "none"},
        "features": {"inception", "texture", "stats"},
    }
    for group, names in expected.items():
        assert names <= set(options(group)), group


@pytest.mark.parametrize(("group", "option"), [(g, o) for g in GROUPS for o in options(g)])
def test_every_option_composes_and_names_itself(group, option):
    (cfg,) = composing.compose_jobs("train", [f"{group}={option}"])
    if group != "paths":
        assert cfg[group].name == option


@pytest.mark.parametrize("primary", [p.stem for p in CONF.glob("*.yaml")])
def test_every_entry_composes(primary):
    (cfg,) = composing.compose_jobs(primary, [])
    OmegaConf.to_container(cfg, resolve=False)


@pytest.mark.parametrize("launcher", options("hydra/launcher"))
def test_every_launcher_composes(launcher):
    plan = composing.planned("train", ["-m", f"hydra/launcher={launcher}", "cond=film,none"])
    assert plan.sweep_folder is not None
    assert len(plan.jobs) == 2


def test_a_search_is_checked_without_what_it_varies():
    words = ["-m", "hydra/sweeper=search", "optim.lr=interval(1e-4,3e-3)", "cond=film", "train.steps=2"]
    if importlib.util.find_spec("hydra_plugins.hydra_optuna_sweeper") is None:
        with pytest.raises(ConfigError, match=r"pip install zoomldm\[search\]"):
            composing.planned("train", words)
        return
    plan = composing.planned("train", words)
    assert plan.is_search
    assert [job.words for job in plan.jobs] == [("hydra/sweeper=search", "cond=film", "train.steps=2")]


def experiment_files() -> list[Path]:
    return sorted((cli.PROJECT_ROOT / "experiments").glob("*.yaml"))


@pytest.mark.parametrize("file", experiment_files(), ids=lambda p: p.stem)
def test_every_experiment_composes_into_jobs_that_make_sense(file):
    jobs = composing.compose_jobs("train", [f"experiments={file.stem}"])
    assert len(jobs) >= 2, "an experiment carries its sweep"
    for cfg in jobs:
        assert not combination_faults(cfg)
    assert (file.parent / file.stem / "README.md").is_file()


def test_table1_has_the_rows_of_the_paper():
    jobs = composing.compose_jobs("train", ["experiments=table1"])
    ladder = [20, 10, 5, 2.5, 1.25, 0.625, 0.3125, 0.15625]
    rows = [(stage_in(j).kind, j.training.name, j.training.get("magnification"), j.training.get("match")) for j in jobs]
    assert rows[:2] == [("zoomldm", "unified", None, None), ("edm", "unified", None, None)]
    assert rows[2:] == [("zoomldm", "single", m, match) for match in ("compute", "samples") for m in ladder]
    assert {job.data.name for job in jobs} == {"pyramid"}
    assert {job.evaluation.num_in_sweep for job in jobs} == {120}
    assert all("unseen" in job.metrics for job in jobs)


@pytest.mark.parametrize("name", ["table1", "conditioning", "curriculum", "edm"])
def test_every_job_of_an_experiment_is_a_run_of_its_own(name, tmp_path):
    rows = ["experiments/table1=unified,edm,single_5x,samples_5x"] if name == "table1" else []
    plan = composing.planned("train", [f"experiments={name}", "seeds=2", f"paths.root={tmp_path}", *rows])
    names = [run_name_of(job.cfg, job.words) for job in plan.jobs]
    assert len(set(names)) == len(names)
    for job, own in zip(plan.jobs, names):
        assert ("seed=1" in own) == (job.cfg.seed == 1)
        if job.cfg.zoomldm:
            assert ("seed=1" in job.cfg.zoomldm.run) == (job.cfg.seed == 1), "of the same seed"


def test_the_papers_configuration():
    (cfg,) = composing.compose_jobs("train", ["model=zoomldm", "data=brca_8mag"])
    assert (cfg.encoder.name, cfg.features.name, cfg.cond.name) == ("hipt", "inception", "film")
    assert (cfg.optim.lr, cfg.optim.warmup_steps, cfg.optim.batch_size) == (1e-4, 1000, 600)
    assert OmegaConf.missing_keys(cfg) >= {"autoencoder.weights", "unet.init"}
    assert (cfg.sampling.steps, cfg.sampling.guidance_scale) == (50, 1.75)
    assert (cfg.data.ladder.patch_px, cfg.data.ladder.num_rungs) == (256, 8)


@pytest.mark.parametrize(
    ("model", "schedule", "solver"),
    [
        ("zoomldm", "scaled_linear", "ddim"),
        ("zoomldm_small", "scaled_linear", "ddim"),
        ("zoomldm_tiny", "scaled_linear", "ddim"),
        ("edm", "linear", "ddim"),
        ("edm_tiny", "squared_cosine", "ddim"),
        ("edm_reference", "linear", "ddim"),
        ("edm_dit", "squared_cosine", "ddim_even"),
        ("autoencoder_tiny", None, None),
    ],
)
def test_a_model_brings_its_schedule_and_solver_and_the_command_line_may_name_others(model, schedule, solver):
    (cfg,) = composing.compose_jobs("train", [f"model={model}"])
    assert [cfg.get(group) and cfg[group].name for group in ("schedule", "solver")] == [schedule, solver]
    (cfg,) = composing.compose_jobs("train", [f"model={model}", "schedule=linear", "solver=dpmpp"])
    assert (cfg.schedule.name, cfg.solver.name) == ("linear", "dpmpp")


@pytest.mark.parametrize("scale", ["", "_tiny", "_reference"])
def test_a_zoomldm_that_is_told_the_level_above_is_the_one_that_it_starts_from_in_all_else(scale):
    words = ["autoencoder.weights=null", "unet.init=null"]
    told, plain = (
        composing.compose_jobs("train", [f"model={name}{scale}", *words])[0] for name in ("zoomldm_zoom", "zoomldm")
    )
    assert told.model.init_run == f"zoomldm{scale}-{told.data.name}-film"
    own = ("name", "parent", "init_run")
    assert {k: v for k, v in told.model.items() if k not in own} == {
        k: v for k, v in plain.model.items() if k not in own
    }
    assert (told.unet, told.prediction, told.schedule) == (plain.unet, plain.prediction, plain.schedule)


@pytest.mark.parametrize("model", ["edm", "edm_tiny", "edm_zoom_tiny", "edm_dit"])
def test_an_edm_predicts_the_clean_tokens_unless_another_is_named(model):
    for words, said in ([], "x0"), (["prediction=v"], "v"):
        (cfg,) = composing.compose_jobs("train", [f"model={model}", *words])
        assert (cfg.prediction.name, stage_in(cfg).prediction.name) == (said, said)


def test_the_pyramid_has_the_papers_ratios():
    """Table 1: 12M, 3M, 750k, 186k, 57k, 20k, 7k, 2.5k; 14 of 56 patients are trained on."""
    (cfg,) = composing.compose_jobs("prepare", ["data=pyramid"])
    slides, packs = from_config(cfg)
    num_train = round(cfg.data.demo_slides.num_patients * (1 - packs.test_fraction))
    counts = [num_train * most for most in slides.regions.max_per_slide.values()]
    paper = [12e6, 3e6, 750e3, 186e3, 57e3, 20e3, 7e3, 2.5e3]
    assert counts[0] == pytest.approx(200_000, rel=0.01)
    assert [one / counts[0] for one in counts] == pytest.approx([one / paper[0] for one in paper], rel=0.1)
    assert set(slides.regions.stride.values()) == {1}
    assert set(packs.max_test_per_slide.values()) == {12}


def composed(combinations: Iterable[list[str]]) -> Iterator[DictConfig]:
    """Compose many in one session of Hydra; what `compose_jobs` does besides, checking the keys, is another test's."""
    register()
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        composer = composing.Composer("train", None, [])
        for words in combinations:
            yield composing.without_hydra(composer.compose(words))


def test_any_combination_composes_and_is_sensible_or_refused():
    models = [name for name in options("model") if name != "reference"]  # which is trained already
    wanted = set(product(models, options("data"), ["film"], ["unified"]))
    wanted |= set(product(models, ["demo"], ["film", "none"], ["unified", "single"]))
    keys = ("model", "data", "cond", "training")
    combinations = [[f"{key}={value}" for key, value in zip(keys, one)] for one in sorted(wanted)]
    for (model, data, _, training), words, cfg in zip(sorted(wanted), combinations, composed(combinations)):
        faults = combination_faults(cfg)
        assert all("\n" not in fault and len(fault) > 30 for fault in faults)
        if model.endswith(("tiny", "reference")) != (data in ("demo", "reference", "pyramid")):
            assert any("px" in fault for fault in faults), words
        if training == "single":
            assert any("training.magnification" in fault for fault in faults), words


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["model=zoomldm"], "patches of 256 px"),
        (["model=edm_tiny", "cond=none"], "cond=none makes none"),
        (["training=single", "training.magnification=3"], "not on this ladder"),
        (["training=single"], "needs a magnification"),
        (["training.match=samples"], "training=unified doesn't look at it"),
    ],
)
def test_senseless_combinations_are_refused_with_a_reason(words, reason):
    (cfg,) = composing.compose_jobs("train", words)
    assert reason in " ".join(combination_faults(cfg))


def test_the_papers_run_names_everything_that_is_missing(tmp_path):
    from zoomldm.commands.check import check_train

    (cfg,) = composing.compose_jobs("train", ["model=zoomldm", "data=brca_8mag", f"paths.root={tmp_path}"])
    with pytest.raises(ConfigError) as caught:
        check_train(cfg)
    message = str(caught.value)
    for wanted in (
        "autoencoder.weights",
        "unet.init",
        "features=inception",
        str(tmp_path),
        "prepare.py data=brca_8mag",
    ):
        assert wanted in message
