"""The page that a person looks at, also where nothing came of a preparation."""

import pytest

from tests.helpers.prepare import prepare_folder
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
