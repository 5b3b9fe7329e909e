"""Which class opens a file, and classes of one's own."""

import numpy as np
import pytest
from PIL import Image

from data_prep.slides.readers.base import open_reader, suffixes_of
from data_prep.slides.table import find_slides
from tests.helpers.tiny_slides import READERS, open_slide, readers, tissue_pixels, write_slide
from zoomldm.config import Option
from zoomldm.errors import ConfigError, DataError

OWN_READER = '''
import numpy as np
from data_prep.slides.readers.base import SlideReader

class NumpyReader(SlideReader):
    """Slides as arrays of numpy, their scale in the YAML."""

    suffixes = frozenset({".npy"})
    vendor = "numpy"

    def __init__(self, path, *, mpp):
        self.pixels = np.load(path)
        self.level_sizes, self.downsamples = [self.pixels.shape[1::-1]], [1.0]
        self.properties = {"openslide.mpp-x": str(mpp)}

    def read(self, level, x, y, width, height):
        return self.pixels[y : y + height, x : x + width]
'''


def option_of(**values):
    return Option("reader.numpy", {"_target_": "npyreader.NumpyReader", **values}, ("npyreader",))


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "npyreader.py").write_text(OWN_READER)
    monkeypatch.syspath_prepend(tmp_path)
    return option_of(mpp=0.25)


def test_the_first_reader_that_knows_a_files_kind_opens_it(tmp_path):
    write_slide(tmp_path / "tiled.tif", tissue_pixels(300, 300))
    Image.fromarray(tissue_pixels(300, 300)).save(tmp_path / "flat.tif")
    Image.fromarray(tissue_pixels(300, 300)).save(tmp_path / "flat.png")
    opened = {path.name: open_reader(path, READERS) for path in tmp_path.glob("*.*")}
    kinds = {name: type(reader).__name__ for name, reader in opened.items()}
    assert kinds == {"tiled.tif": "LevelReader", "flat.tif": "FlatReader", "flat.png": "FlatReader"}
    decoders = {name: reader.decoder(0) for name, reader in opened.items()}
    assert decoders == {"tiled.tif": "tifffile", "flat.tif": "flat", "flat.png": "flat"}
    assert type(open_reader(tmp_path / "tiled.tif", readers("openslide", "auto"))).__name__ == "OpenSlideReader"


def test_a_file_that_no_chosen_reader_knows_is_refused_with_their_names(tmp_path):
    Image.fromarray(tissue_pixels(300, 300)).save(tmp_path / "flat.png")
    with pytest.raises(DataError, match=r"flat\.png: not a kind of file that reader=\[openslide\] reads"):
        open_reader(tmp_path / "flat.png", readers("openslide"))


def test_a_reader_of_ones_own_finds_its_files_and_gives_the_pixels(tmp_path, own):
    folder, pixels = tmp_path / "slides", tissue_pixels(400, 300)
    folder.mkdir()
    np.save(folder / "a.npy", pixels)
    write_slide(folder / "b.tif", pixels)
    chosen = (own, *READERS)
    specs, _ = find_slides(str(folder), suffixes_of(chosen))
    assert [spec.name for spec in specs] == ["a", "b"]
    slide = open_slide(folder / "a.npy", options=chosen)
    assert (slide.vendor, slide.scale.source, slide.scale.box) == ("numpy", "mpp of the file", 2)
    assert np.array_equal(slide.read_boxes(10, 20, 30, 40)[0], pixels[40:120, 20:80])


def test_a_readers_arguments_are_checked(tmp_path, own):
    np.save(tmp_path / "a.npy", tissue_pixels(400, 300))
    with pytest.raises(ConfigError, match="did you mean 'mpp'"):
        open_reader(tmp_path / "a.npy", (option_of(mppp=0.25),))
    with pytest.raises(ConfigError, match="allow_code"):
        open_reader(tmp_path / "a.npy", (Option("reader.numpy", own.section),))
