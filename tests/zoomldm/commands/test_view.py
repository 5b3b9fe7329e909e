"""What cannot be shown is refused with a message, before anything is served."""

import subprocess
import sys

import pytest

from tests.helpers.tiny_slides import tissue_pixels, write_slide
from zoomldm import composing
from zoomldm.commands.view import check
from zoomldm.config import PROJECT_ROOT
from zoomldm.errors import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("view")
    write_slide(folder / "a.tif", tissue_pixels(300, 200))
    write_slide(folder / "bare.tif", tissue_pixels(300, 200), mpp=None)
    (folder / "text.svs").write_text("a slide")
    return folder


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], r"slides=\[\]: expected one file or two"),
        (["slides=[a.tif,a.tif,a.tif]"], r"slides=\[a.tif,a.tif,a.tif\]: expected one file or two"),
        (["slides=[b.tif]"], r"slides=b\.tif: no such file"),
        (["slides=[a.tif,text.svs]"], r"text\.svs: OpenSlide cannot read it"),
        (["slides=[bare.tif]"], r"bare\.tif: does not say its scale; .*mpp=0\.5"),
        (["slides=[a.tif]", "mpp=0.5"], r"mpp=0\.5: every slide says its own scale"),
        (["slides=[bare.tif]", "mpp=0"], r"mpp=0: expected micrometres a pixel"),
        (["slides=[a.tif]", "port=70000"], r"port=70000: expected a whole number from 1 to 65535"),
        (["slides=[a.tif]", "patch_px=0"], r"patch_px=0: expected a whole number from 8"),
    ],
)
def test_what_cannot_be_shown_is_refused(words, message, folder, monkeypatch):
    monkeypatch.chdir(folder)
    (cfg,) = composing.compose_jobs("view", words)
    with pytest.raises(UserError, match=message):
        check(cfg)


def test_a_mistake_is_a_message_and_torch_is_not_imported(folder):
    words = ["-X", "importtime", str(PROJECT_ROOT / "src" / "view.py"), "slides=[text.svs]"]
    done = subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True, timeout=120)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "\nerror: text.svs: OpenSlide cannot read it" in done.stderr
    assert "openslide.deepzoom\n" in done.stderr
    assert "| torch\n" not in done.stderr
