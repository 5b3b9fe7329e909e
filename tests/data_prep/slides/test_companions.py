"""Which files a slide consists of."""

from data_prep.slides.companions import companions_of
from tests.helpers.tiny_slides import tissue_pixels
from tests.helpers.vendor_slides import write_mrxs


def test_a_mirax_slide_is_its_file_and_folder(tmp_path):
    path = write_mrxs(tmp_path / "a.mrxs", tissue_pixels(500, 400))
    (tmp_path / "b.mrxs").touch()
    assert companions_of(path) == [path, *sorted((tmp_path / "a").iterdir())]


def test_a_hamamatsu_index_names_its_files(tmp_path):
    path = tmp_path / "a.vms"
    path.write_text("[Virtual Microscope Specimen]\nNoLayers=1\nImageFile=a.jpg\nOptimisationFile=a.opt\nMacroImage=\n")
    for name in ("a.jpg", "a.opt", "b.jpg"):
        (tmp_path / name).touch()
    assert companions_of(path) == [path, tmp_path / "a.jpg", tmp_path / "a.opt"]


def test_any_other_slide_is_one_file(tmp_path):
    for name in ("a.svs", "a.tif"):
        (tmp_path / name).touch()
    assert companions_of(tmp_path / "a.svs") == [tmp_path / "a.svs"]
