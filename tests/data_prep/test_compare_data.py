"""The command that sets prepared synthetic slides beside real ones."""

import shutil

import pytest

from data_prep import compare_data
from tests.helpers.prepare import prepare_folder
from tests.helpers.tiny_slides import tissue_pixels, write_slide
from zoomldm.composing import compose_jobs
from zoomldm.errors import ConfigError


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Return a folder with two data sets of one slide each."""
    path = tmp_path_factory.mktemp("data")
    (path / "slides").mkdir()
    write_slide(path / "slides" / "a.tif", tissue_pixels(300, 300, margin=0.02))
    prepare_folder(path / "slides", path / "drawn", split_mode="paper", num_rungs=2)
    shutil.copytree(path / "drawn", path / "painted")
    return path


def composed(data, *words):
    return compose_jobs("compare_data", [f"paths.data={data}", "features=stats", *words])[0]


def test_names_and_folders_are_compared_and_the_page_lies_with_the_synthetic_set(data, capsys):
    cfg = composed(data, "synthetic=drawn", f"real={data / 'painted'}", "num_per_magnification=20")
    compare_data.check(cfg)
    compare_data.compare_data(cfg)
    said = capsys.readouterr().out
    assert "| tissue, part " in said
    assert (data / "drawn" / "qc" / "beside-tiny" / "index.html").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["synthetic=drawn"], "real=: expected a prepared data set"),
        (["synthetic=drwan", "real=painted"], "did you mean 'drawn'.* prepared are: drawn, painted"),
        (["synthetic=drawn", "real=painted", "num_per_magnification=1"], "expected 2 or more"),
        (["synthetic=drawn", "real=painted", "seed=-1"], "seed=-1"),
    ],
)
def test_what_is_not_there_is_said(data, words, message):
    with pytest.raises(ConfigError, match=message):
        compare_data.check(composed(data, *words))
