from pathlib import Path

import pytest

from zoomldm.config import PROJECT_ROOT
from zoomldm.rehearsal.documents import Command, commands_of, paper_size_commands
from zoomldm.rehearsal.plan import STAGES, command_of, unclaimed

COMMANDS = paper_size_commands(PROJECT_ROOT)


def test_every_documented_command_of_the_papers_size_is_rehearsed_or_explained():
    assert len(COMMANDS) > 20
    assert not [f"{one.page}: {one}" for one in unclaimed(COMMANDS)]


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.title)
def test_every_stage_is_a_documented_command(stage):
    assert command_of(stage, COMMANDS) is not None
    claimed = [one.title for one in STAGES if one.is_of(command_of(stage, COMMANDS))]
    assert claimed[0] == stage.title or stage.title == "ZoomLDM, resumed"


def test_a_new_documented_command_is_not_forgotten():
    (new,) = commands_of("    python src/train.py model=zoomldm data=brca_8mag optim.lr=1\n", "page.md")
    assert unclaimed([new]) == [new]


def test_only_indented_lines_count_and_the_ellipsis_is_written_out():
    page = """
`python src/train.py data=brca_8mag` in a sentence.

    python src/train.py model=zoomldm data=brca_8mag \\
        unet.init=…   # with a comment
    python src/train.py … fabric=ddp data=demo

    python data_prep/verify.py data=brca_8mag
"""
    found = list(commands_of(page, "page.md"))
    assert [one.words for one in found] == [
        ("model=zoomldm", "data=brca_8mag", "unet.init=…"),
        ("model=zoomldm", "unet.init=…", "fabric=ddp", "data=demo"),
        ("data=brca_8mag",),
    ]


def test_what_is_typed_are_the_documents_words_and_the_cuts():
    stage = next(one for one in STAGES if one.title == "ZoomLDM")
    command = Command("page", "src/train.py", ("model=zoomldm", "data=brca_8mag", "unet.init=weights/x.ckpt"))
    words = stage.words(command, {"unet.init": "/scratch/x.ckpt", "slides": "/slides"}, run_name="name")
    assert words[:2] == ["model=zoomldm", "data=brca_8mag"]
    assert {"unet.init=/scratch/x.ckpt", "train.steps=1", "run_name=name"} <= set(words)
    assert not [word for word in words if word.startswith("slides")]


def test_no_cut_changes_an_architecture():
    sections = {key.split(".")[0] for stage in STAGES for key in stage.cuts}
    assert not sections & {"model", "unet", "tokens", "encoder", "schedule", "data.ladder"}


def test_pages_that_are_read():
    assert {Path(one.page).parts[0] for one in COMMANDS} == {"README.md", "docs", "experiments"}
