"""Every command in the documentation composes: its options and keys exist, and none is refused as without effect."""

import re
import shlex

import pytest

from zoomldm import cli, composing
from zoomldm.commands.effect import check_effect
from zoomldm.config import PROJECT_ROOT
from zoomldm.errors import UserError

PRIMARY = {
    **{
        f"src/{name}.py": name
        for name in ("train", "evaluate", "compare", "sample", "slide", "app", "view", "export", "demo", "doctor")
    },
    "src/reference.py": "reference",
    **{f"data_prep/{name}.py": name for name in ("prepare", "verify", "latents", "compare_data")},
}
PAGES = [PROJECT_ROOT / "README.md", *PROJECT_ROOT.glob("docs/*.*"), *PROJECT_ROOT.glob("experiments/**/*.md")]
COMMAND = re.compile(r"python (?P<script>(?:src|data_prep)/\w+\.py)(?P<words>[^`#|;\n]*)")


def commands() -> list[tuple[str, str, str]]:
    found = []
    for page in PAGES:
        if page.suffix in (".md", ".sbatch"):
            text = page.read_text(encoding="utf-8").replace("\\\n", " ")
            text = re.sub(r"`([^`]*)\n([^`]*)`", r"`\1 \2`", text)  # code that was wrapped in a paragraph
            found += [(page.name, match["script"], match["words"].strip()) for match in COMMAND.finditer(text)]
    return sorted(set(found))


def test_there_are_commands():
    assert len(commands()) > 20


@pytest.mark.parametrize(("page", "script", "words"), commands(), ids=lambda value: str(value)[:60])
def test_a_documented_command_composes(page, script, words, monkeypatch, tmp_path):
    if script not in PRIMARY or "…" in words:
        pytest.skip("no Hydra command, or cut short")
    if "hydra/sweeper=search" in words:
        pytest.importorskip("optuna", reason="the extra search")
    monkeypatch.setenv("PROJECT_ROOT", str(cli.PROJECT_ROOT))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_conf" / "cond").mkdir(parents=True)
    for group in ("cond", "encoder", "features"):
        (tmp_path / "my_conf" / group).mkdir(exist_ok=True)
        (tmp_path / "my_conf" / group / "mine.yaml").write_text("_target_: mine.Mine\nname: mine\n")
    words = re.sub(r"\[[a-z_.]+=[A-Z]+\]", "", words).replace('"$@"', "")
    words = re.sub(r'"\$\w+"', "2", words).replace("seeds=3", "seeds=1")
    words = re.sub(r"(?<!\S)runs/\S+", "", words) if script == "src/compare.py" else words  # folders of runs
    plan = composing.planned(PRIMARY[script], shlex.split(words))
    refused = []
    for job in plan.jobs:
        try:
            check_effect(PRIMARY[script], job.cfg, job.words, is_sweep=plan.sweep_folder is not None)
        except UserError as error:
            refused.append(str(error))
    assert not [said for said in refused if "has no effect" in said], "others want a run or a data set, not here"


NAMED = re.compile(r"\b(?:src|data_prep|conf|docs|tests|experiments|benchmarks|zoomldm)/[\w./-]*\w")


@pytest.mark.parametrize("page", [page for page in PAGES if page.suffix == ".md"], ids=lambda page: page.name)
def test_every_path_that_is_named_is_there(page):
    roots = (PROJECT_ROOT, PROJECT_ROOT / "src", PROJECT_ROOT / "src" / "zoomldm", page.parent)
    named = set(NAMED.findall(page.read_text(encoding="utf-8").replace("my_conf/", "")))
    assert not [path for path in sorted(named) if not any((root / path).exists() for root in roots)]
