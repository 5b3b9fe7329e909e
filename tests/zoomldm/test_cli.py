"""The command line answers people's mistakes at once, with the near match and without a traceback."""

import os
import subprocess
import sys

import pytest

from zoomldm import cli
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
    monkeypatch.setattr(cli, "CONF", tmp_path / "conf")
    monkeypatch.setenv("PROJECT_ROOT", str(tmp_path))
    return tmp_path


def compose(*words):
    return cli.compose_jobs("train", words)


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


def test_user_errors_end_with_a_message_and_code_2(capsys):
    with pytest.raises(SystemExit) as ended, cli.user_errors():
        raise UserError("slide.svs: no scale")
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: slide.svs: no scale\n"


def test_other_errors_keep_their_traceback():
    with pytest.raises(ZeroDivisionError), cli.user_errors():
        1 / 0  # noqa: B018


@pytest.mark.parametrize(("variable", "value", "first"), [("LOCAL_RANK", "1", False), ("RANK", "0", True)])
def test_only_the_first_process_checks(monkeypatch, variable, value, first):
    monkeypatch.setenv(variable, value)
    assert cli.is_first_process() is first


def test_what_belongs_to_a_flag_is_no_override(conf):
    (job,) = compose("--cfg", "job", "-p", "optim", "cond=none")
    assert job.cond.name == "none"


def test_jobs_carry_their_words_and_tell_a_sweep(conf):
    jobs, is_sweep = cli.plan_jobs("train", ["experiments=sweep", "optim.lr=1"])
    assert is_sweep
    assert [job.words for job in jobs] == [
        ("experiments=sweep", "optim.lr=1", "cond=film"),
        ("experiments=sweep", "optim.lr=1", "cond=none"),
    ]
    assert not cli.plan_jobs("train", [])[1]


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
