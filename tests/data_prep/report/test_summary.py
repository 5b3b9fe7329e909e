"""The page that a person looks at, also where nothing came of a preparation."""

import numpy as np
import pytest

from tests.helpers.prepare import prepare_folder
from tests.helpers.tiny_slides import GLASS, write_slide
from zoomldm.errors import DataError


def test_the_page_says_why_where_every_slide_failed(tmp_path):
    slides = tmp_path / "slides"
    slides.mkdir()
    (slides / "empty.svs").touch()
    (slides / "noise.svs").write_bytes(b"x" * 5000)
    with pytest.raises(DataError, match="no slide could be prepared"):
        prepare_folder(slides, tmp_path / "data")
    page = (tmp_path / "data" / "qc" / "index.html").read_text()
    assert "an empty file (0 bytes)" in page
    assert "not a slide that OpenSlide knows" in page


def test_the_page_shows_the_worst_slides_first_and_takes_names_as_text(tiny_slide, tmp_path):
    slides = tiny_slide("fine").parent
    write_slide(slides / "<i>glass.tif", np.full((300, 300, 3), GLASS, np.uint8))
    (slides / "noise.svs").write_bytes(b"x" * 5000)
    prepare_folder(slides, tmp_path / "data")
    page = (tmp_path / "data" / "qc" / "index.html").read_text()
    assert "3 slides: 1 with samples" in page
    assert page.index("<b>noise</b> <b class=bad>failed</b>") < page.index("&lt;i&gt;glass") < page.index("<b>fine</b>")
    assert "<i>" not in page
    assert "no region has enough tissue" in page
    assert "no sample" in page
    shown = [word.split('"')[0] for word in page.split('src="')[1:]]
    assert len(shown) == 3  # a picture each, and the focus of the one with tiles
    assert all((tmp_path / "data" / "qc" / name).is_file() for name in shown)
