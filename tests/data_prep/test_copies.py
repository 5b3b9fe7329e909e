"""One slide under two names, and cohorts whose patients nobody named."""

import shutil
from dataclasses import replace

from data_prep.execution.serial import SerialExecutor
from data_prep.pipeline import run
from data_prep.report.verification import verify
from tests.helpers.prepare import prepare_folder, tiny_preparation


def test_a_copy_under_another_name_is_named_and_left_out(slides, tmp_path, capsys):
    shutil.copy(slides / "a.tif", slides / "z.tif")
    manifest = prepare_folder(slides, tmp_path / "data")
    assert "warning: z:" in (said := capsys.readouterr().out)
    assert "the same content as slide a" in said
    lines = {line["slide"]: line for line in manifest.slides}
    assert (lines["a"]["status"], lines["z"]["status"]) == ("done", "failed")
    assert "z" not in manifest.patients["train"] + manifest.patients["test"]
    assert verify(manifest) == []
    shutil.copy(slides / "b.tif", slides / "0.tif")  # the one that is packed stays, whatever the order of names
    manifest = prepare_folder(slides, tmp_path / "data")
    assert {line["slide"]: line["status"] for line in manifest.slides}["0"] == "failed"
    capsys.readouterr()
    prepare_folder(slides, tmp_path / "data")
    assert "nothing to do" in capsys.readouterr().out


def test_a_cohort_without_patients_is_told_so(slides, tmp_path, capsys):
    prepare_folder(slides, tmp_path / "data")
    assert "3 slides = 3 patients" in capsys.readouterr().out
    prepare_folder(slides, tmp_path / "paper", split_mode="paper")
    assert "3 slides = 3 patients" not in capsys.readouterr().out
    run(replace(tiny_preparation(slides, tmp_path / "drawn"), patients_known=True), SerialExecutor())
    assert "3 slides = 3 patients" not in capsys.readouterr().out
