"""The command line answers people's mistakes at once, with the near match and without a traceback."""

import os
import subprocess
import sys

import pytest

from zoomldm import cli, composing, flags
from zoomldm.errors import ConfigError, UserError

PRIMARY = """
defaults:
  - cond: film
  - _self_
  - optional experiments: null
optim: {lr: 0.1, warmup_steps: 10}
fresh: false
run_name: null
hydra: {output_subdir: null, searchpath: ["file://${oc.env:PROJECT_ROOT}/more"]}
"""
SWEEP = """
# @package _global_
hydra: {mode: MULTIRUN, sweeper: {params: {cond: "film,none"}}}
"""


@pytest.fixture
def conf(tmp_path, monkeypatch):
    (tmp_path / "conf" / "cond").mkdir(parents=True)
    (tmp_path / "more" / "experiments").mkdir(parents=True)
    (tmp_path / "conf" / "train.yaml").write_text(PRIMARY)
    (tmp_path / "conf" / "cond" / "film.yaml").write_text("name: film\nwidths: [1, 2]\n")
    (tmp_path / "conf" / "cond" / "none.yaml").write_text("name: none\n")
    (tmp_path / "more" / "experiments" / "sweep.yaml").write_text(SWEEP)
    monkeypatch.setattr(composing, "CONF", tmp_path / "conf")
    monkeypatch.setenv("PROJECT_ROOT", str(tmp_path))
    return tmp_path


def compose(*words):
    return composing.compose_jobs("train", words)


def test_one_job(conf):
    (job,) = compose("cond=none", "optim.lr=2e-3")
    assert (job.cond.name, job.optim.lr) == ("none", 2e-3)


def test_a_sweep_is_its_product(conf):
    jobs = compose("-m", "cond=film,none", "optim.lr=1,2")
    assert [(j.cond.name, j.optim.lr) for j in jobs] == [("film", 1), ("film", 2), ("none", 1), ("none", 2)]


def test_an_experiment_carries_its_sweep(conf):
    assert [j.cond.name for j in compose("experiments=sweep")] == ["film", "none"]
    assert [j.cond.name for j in compose("experiments=sweep", "cond=none")] == ["none"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cond=flim"], r"cond=flim.*did you mean 'film'.*film, none"),
        (["optim.lrr=1"], r"optim\.lrr.*did you mean 'optim\.lr'"),
        (["optm.lr=1"], r"did you mean 'optim\.lr'"),
        (["con=film"], r"did you mean 'cond'"),
        (["++optim.lrr=1"], r"optim\.lrr"),
        (["+nonsense=1"], r"nonsense"),
        (["optim.lr=fast"], r"expected a number"),
        (["fresh=maybe"], r"true or false"),
        (["cond=film,none"], r"-m"),
        (["experiments=sweeep"], r"did you mean 'sweep'"),
        (["-m", "cond=film,nome"], r"cond=nome"),
        (["nonsense"], r"key=value|nonsense"),
    ],
)
def test_mistakes_are_named_with_the_near_match(conf, words, message):
    with pytest.raises(ConfigError, match=message):
        compose(*words)


def test_a_runs_name_that_holds_an_equals_sign_is_shown_as_it_is_typed(conf):
    with pytest.raises(ConfigError, match=r"""quoted twice: "run_name='a-seed=1'"$"""):
        compose("run_name=a-seed=1")
    (job,) = compose("run_name='a-seed=1'")
    assert job.run_name == "a-seed=1"


def test_user_errors_end_with_a_message_and_code_2(capsys):
    with pytest.raises(SystemExit) as ended, cli.user_errors():
        raise UserError("slide.svs: no scale")
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: slide.svs: no scale\n"


def test_other_errors_keep_their_traceback():
    with pytest.raises(ZeroDivisionError), cli.user_errors():
        1 / 0  # noqa: B018


def test_what_belongs_to_a_flag_is_no_override(conf):
    (job,) = compose("--cfg", "job", "-p", "optim", "cond=none")
    assert job.cond.name == "none"


def test_jobs_carry_their_words_and_tell_a_sweep(conf):
    plan = composing.planned("train", ["experiments=sweep", "optim.lr=1"])
    assert plan.sweep_folder is not None
    assert [job.words for job in plan.jobs] == [
        ("cond=film", "experiments=sweep", "optim.lr=1"),  # the order in which Hydra's sweeper has them
        ("cond=none", "experiments=sweep", "optim.lr=1"),
    ]
    assert composing.planned("train", []).sweep_folder is None


def test_seeds_are_a_sweep_over_the_first_of_them():
    assert flags.with_seeds(["cond=film", "seeds=3"]) == ["-m", "cond=film", "seed=0,1,2"]
    assert flags.with_seeds(["--multirun", "seeds=1"]) == ["--multirun", "seed=0"]
    assert flags.with_seeds(["seed=4"]) == ["seed=4"]
    for words in (
        ["seeds=0"],
        ["seeds=many"],
        ["seeds=3", "seed=1"],
        ["seeds=2", "seeds=3"],
        ["seeds=3", "run_name=x"],
    ):
        with pytest.raises(ConfigError, match="seed=0,1,2"):
            flags.with_seeds(words)


def test_an_experiment_over_seeds(conf):
    (conf / "conf" / "train.yaml").write_text(PRIMARY.replace("fresh:", "seed: 0\nfresh:"))
    jobs = compose("experiments=sweep", "seeds=2")
    assert [(job.cond.name, job.seed) for job in jobs] == [("film", 0), ("film", 1), ("none", 0), ("none", 1)]


def test_a_mistake_found_in_a_job_is_one_message(tmp_path):
    script = tmp_path / "job.py"
    script.write_text(
        "from zoomldm import cli\nfrom zoomldm.errors import UserError\n"
        "def run(cfg):\n    raise UserError('made up')\n"
        "if __name__ == '__main__':\n    cli.main('evaluate', run)\n"
    )
    env = os.environ | {"PYTHONPATH": str(cli.PROJECT_ROOT / "src")}
    done = subprocess.run([sys.executable, script], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "error: made up\n")


def test_a_key_that_was_renamed_is_refused_with_its_new_name(conf, monkeypatch):
    monkeypatch.setitem(composing.RENAMED, "optim.rate", "optim.lr")
    with pytest.raises(ConfigError, match=r"optim\.rate.*optim\.lr"):
        compose("optim.rate=1")


def train(tmp_path, name, text, *words):
    (tmp_path / "cond").mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    return composing.compose_jobs("train", ["--config-dir", str(tmp_path), *words])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optim: {lrr: 1}", r"optim\.lrr: no such key; did you mean 'lr'"),
        ("train: {steps: many}", r"train\.steps.*many|many.*train\.steps"),
        ("data: {strid: 1}", r"data\.strid: no such key; did you mean 'stride'"),
        ("data: {ladder: {num_rungs: many}}", r"num_rungs.*many|many.*num_rungs"),
        ("evaluation: {num_in_swep: 1}", r"evaluation\.num_in_swep: .*'num_in_sweep'"),
        ("sed: 1", r"sed: no such key; did you mean 'seed'"),
    ],
)
def test_a_file_is_checked_as_the_command_line_is(tmp_path, monkeypatch, text, message):
    monkeypatch.setenv("PROJECT_ROOT", str(cli.PROJECT_ROOT))
    with pytest.raises(ConfigError, match=message):
        train(tmp_path, "cond/odd.yaml", f"# @package _global_\n{text}\n", "cond=odd")


def test_a_folder_of_ones_own_adds_options(tmp_path, monkeypatch):
    monkeypatch.setenv("PROJECT_ROOT", str(cli.PROJECT_ROOT))
    mine = "_target_: mine.Mine\nname: mine\n"
    (job,) = train(tmp_path, "cond/mine.yaml", mine, "cond=mine", "allow_code=[mine]", "+cond.depth=3")
    assert (job.cond.name, job.cond.depth, list(job.allow_code)) == ("mine", 3, ["mine"])
    root = cli.PROJECT_ROOT
    of_process = [f"hydra.searchpath=['file://{root}','file://{tmp_path}']", "cond=mine"]  # as a job hands it on
    assert composing.compose_jobs("train", of_process)[0].cond.name == "mine"
    with pytest.raises(ConfigError, match=r"cond=mne: no such option; did you mean 'mine'"):
        train(tmp_path, "cond/mine.yaml", mine, "cond=mne")
    with pytest.raises(ConfigError, match=r"no such folder"):
        composing.compose_jobs("train", ["--config-dir", str(tmp_path / "nowhere")])


def test_the_configuration_is_shown_also_where_nothing_is_there_to_run(tmp_path):
    words = ["model=zoomldm", "data=brca_8mag", f"paths.root={tmp_path}", "--cfg", "job"]
    script = cli.PROJECT_ROOT / "src" / "train.py"
    done = subprocess.run([sys.executable, script, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "init: ???" in done.stdout


@pytest.mark.parametrize("entry", ["train", "evaluate", "sample", "export", "demo"])
def test_help_is_answered(entry):
    script = cli.PROJECT_ROOT / "src" / f"{entry}.py"
    done = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "== Config ==" in done.stdout


def test_flags_and_overrides_come_in_any_order(conf, tmp_path):
    (tmp_path / "mine").mkdir()
    words = ["cond=none", "--config-dir", str(tmp_path / "mine"), "optim.lr=2", "-m"]
    assert [job.words for job in composing.planned("train", words).jobs] == [("cond=none", "optim.lr=2")]
    assert flags.flags_first(words, ["cond=none", "optim.lr=2"]) == [*words[1:3], "-m", "cond=none", "optim.lr=2"]
    with pytest.raises(ConfigError, match=r"--nonsense.*--hydra-help"):
        compose("cond=none", "--nonsense")


def test_a_data_set_of_ones_own_builds_on_another_and_is_checked(tmp_path, monkeypatch):
    monkeypatch.setenv("PROJECT_ROOT", str(cli.PROJECT_ROOT))
    (tmp_path / "data").mkdir()
    mine = tmp_path / "data" / "mine.yaml"
    for entry in ("prepare", "train", "evaluate"):
        mine.write_text("defaults: [brca_8mag, _self_]\nname: mine\nmin_tissue: 0.2\n")
        (job,) = composing.compose_jobs(entry, ["data=mine", "--config-dir", str(tmp_path)])
        assert (job.data.name, job.data.min_tissue, job.data.ladder.patch_px) == ("mine", 0.2, 256)
        mine.write_text("defaults: [brca_8mag, _self_]\nname: mine\nmin_tisue: 0.2\n")
        with pytest.raises(ConfigError, match=r"data\.min_tisue: no such key; did you mean 'min_tissue'"):
            composing.compose_jobs(entry, ["data=mine", "--config-dir", str(tmp_path)])


def test_the_words_of_a_script_without_configuration():
    assert cli.key_values(["folder=a=b", "seed=1"], ("folder", "seed")) == {"folder": "a=b", "seed": "1"}
    with pytest.raises(UserError, match="sed=1: no such key; did you mean 'seed'"):
        cli.key_values(["sed=1"], ("folder", "seed"))
    with pytest.raises(UserError, match="seed=x: expected a whole number"):
        cli.whole_number("seed", "x")
