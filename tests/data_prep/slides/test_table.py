import pytest

from data_prep.pack.splits import split_patients
from data_prep.slides.table import find_slides, is_frozen, patient_of
from tests.helpers.tiny_slides import SUFFIXES
from zoomldm.errors import ConfigError

DIAGNOSTIC = "TCGA-3C-AALI-01Z-00-DX1.F6E9A5DF-D8FB-45CF-B4BD-C6B76294C291"


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


def names_of(specs):
    return [spec.name for spec in specs]


def test_a_barcode_gives_the_patient_and_other_names_are_their_own():
    assert patient_of(DIAGNOSTIC) == "TCGA-3C-AALI"
    assert patient_of("case_7") == "case_7"
    assert is_frozen("TCGA-3C-AALI-01A-01-TS1")
    assert not is_frozen(DIAGNOSTIC)


def test_a_folder_is_searched_with_its_subfolders(tmp_path):
    touch(tmp_path, "b.svs", "deep/er/a.TIF", "notes.txt", ".hidden/c.svs", f"{DIAGNOSTIC}.svs")
    specs, faults = find_slides(str(tmp_path), SUFFIXES, mpp=0.3)
    assert names_of(specs) == [DIAGNOSTIC, "a", "b"]
    assert faults == []
    assert {(spec.mpp, spec.spare_mpp) for spec in specs} == {(None, 0.3)}


def test_a_glob_and_a_single_slide(tmp_path):
    touch(tmp_path, "a.svs", "b.svs", "c.tif")
    assert names_of(find_slides(f"{tmp_path}/*.svs", SUFFIXES)[0]) == ["a", "b"]
    assert names_of(find_slides(f"{tmp_path}/c.tif", SUFFIXES)[0]) == ["c"]


def test_dicom_files_of_a_folder_are_one_slide(tmp_path):
    touch(tmp_path, "one/1.dcm", "one/2.dcm", "two/1.dcm")
    assert names_of(find_slides(str(tmp_path), SUFFIXES)[0]) == ["one", "two"]


@pytest.mark.parametrize("where", ["", "missing", "*.svs"])
def test_no_slide_is_an_error_that_says_where(tmp_path, where):
    touch(tmp_path, "readme.txt")
    with pytest.raises(ConfigError, match="slides="):
        find_slides(str(tmp_path / where), SUFFIXES)


def test_equal_names_in_two_folders_keep_the_first_and_report_the_other(tmp_path):
    touch(tmp_path, "x/a.svs", "y/a.svs", "y/b.svs", "z/a.tif")
    specs, faults = find_slides(str(tmp_path), SUFFIXES)
    assert names_of(specs) == ["a", "b"]
    assert specs[0].path == tmp_path / "x/a.svs"
    assert [fault.path for fault in faults] == [str(tmp_path / "y/a.svs"), str(tmp_path / "z/a.tif")]
    assert str(tmp_path / "x/a.svs") in faults[0].reason


def test_names_that_differ_only_by_a_dot_share_their_key_and_are_reported(tmp_path):
    touch(tmp_path, "a.b.svs", "a_b.svs")
    specs, faults = find_slides(str(tmp_path), SUFFIXES)
    assert (len(specs), len(faults)) == (1, 1)


def test_a_csv_brings_patient_split_scale_and_labels(tmp_path):
    touch(tmp_path, "s/one.svs", "s/two.svs")
    (tmp_path / "t.csv").write_text(
        "path,slide,patient,split,mpp,grade\ns/one.svs,first,P1,test,0.25,3\ns/two.svs,,,,,\n", encoding="utf-8-sig"
    )
    (first, second), faults = find_slides(str(tmp_path / "t.csv"), SUFFIXES, mpp=0.4)
    assert faults == []
    assert (first.name, first.patient, first.split, first.mpp, first.labels) == (
        "first",
        "P1",
        "test",
        0.25,
        {"grade": "3"},
    )
    assert (second.name, second.patient, second.split, second.mpp) == ("two", "two", None, None)
    assert (first.spare_mpp, second.spare_mpp) == (0.4, 0.4)


def test_a_csv_may_say_for_a_slide_what_others_are_told_together(tmp_path):
    touch(tmp_path, "a.svs", "b.svs", "c.svs", "d.svs")
    lines = ["path,tissue_preset,icc,exclude", "a.svs,faint,no,", "b.svs,,TRUE,0", "c.svs,,,yes", "d.svs,,maybe,"]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    specs, (fault,) = find_slides(str(tmp_path / "t.csv"), SUFFIXES)
    assert [(spec.name, spec.tissue, spec.icc) for spec in specs] == [
        ("a", {"name": "faint"}, False),
        ("b", None, True),
    ]
    assert "icc 'maybe', expected true or false" in fault.reason
    assert all(spec.labels == {} for spec in specs)


def test_a_csv_without_a_path_column_names_those_it_has(tmp_path):
    (tmp_path / "t.csv").write_text("file,patient\na.svs,P\n")
    with pytest.raises(ConfigError, match=r"no column 'path'.*file, patient"):
        find_slides(str(tmp_path / "t.csv"), SUFFIXES)


def test_bad_lines_of_a_csv_are_reported_and_the_others_go_on(tmp_path):
    touch(tmp_path, "a.svs", "b.svs", "c.svs")
    (tmp_path / "t.csv").write_text("path,split,mpp\na.svs,,\nmissing.svs,,\nb.svs,validation,\nc.svs,,fine\n,,\n")
    specs, faults = find_slides(str(tmp_path / "t.csv"), SUFFIXES)
    assert names_of(specs) == ["a"]
    reasons = " | ".join(fault.reason for fault in faults)
    for part in ("line 3", "no such file", "'validation'", "'fine' is not a number", "line 6: no path"):
        assert part in reasons


def test_an_ome_zarr_is_reported_with_what_converts_it(tmp_path):
    touch(tmp_path, "a.svs")
    (tmp_path / "b.ome.zarr" / "0").mkdir(parents=True)
    (tmp_path / "t.csv").write_text("path\na.svs\nb.ome.zarr\n")
    for slides in (tmp_path, tmp_path / "t.csv"):
        specs, (fault,) = find_slides(str(slides), SUFFIXES)
        assert names_of(specs) == ["a"]
        assert "b.ome.zarr: OME-Zarr is not read; convert it to a pyramidal OME-TIFF" in fault.reason
    assert len(find_slides(str(tmp_path / "b.ome.zarr"), SUFFIXES)[1]) == 1


def patients(number, **values):
    from data_prep.slides.table import SlideSpec

    return [SlideSpec(path=f"{i}.svs", name=f"{i}", patient=f"p{i // 2}", **values) for i in range(number)]


def split_of(specs, *, mode="patients", test_fraction=0.25, seed=0):
    return split_patients(specs, mode=mode, test_fraction=test_fraction, seed=seed)


def test_splits_are_by_patient_and_seeded():
    split = split_of(patients(40))
    values = list(split.of_patient.values())
    assert (len(values), values.count("test")) == (20, 5)
    assert split == split_of(patients(40)[::-1])
    assert split != split_of(patients(40), seed=1)


def test_each_split_has_a_patient():
    assert sorted(split_of(patients(4), test_fraction=0.0).of_patient.values()) == ["test", "train"]
    assert sorted(split_of(patients(4), test_fraction=0.9).of_patient.values()) == ["test", "train"]


def test_the_tables_split_wins():
    specs = patients(10) + patients(2, split="test")
    assert split_of(specs).of_patient["p0"] == "test"


def test_a_patient_in_both_splits_is_refused():
    with pytest.raises(ConfigError, match="p0"):
        split_of(patients(2, split="test") + patients(2, split="train"))


def test_paper_puts_all_in_train_and_one_patient_is_split_by_area():
    assert set(split_of(patients(6), mode="paper").of_patient.values()) == {"train"}
    assert split_of(patients(2)).held_out == "area"
    assert split_of(patients(2), mode="paper").held_out == "nothing"
    with pytest.raises(ConfigError, match="split=random"):
        split_of(patients(6), mode="random")


def test_patients_that_come_later_leave_the_others_where_they_are():
    first = split_of(patients(20)).of_patient
    specs = patients(80)
    later = split_patients(specs, mode="patients", test_fraction=0.25, seed=0, known=first).of_patient
    assert {name: later[name] for name in first} == first
    assert list(later.values()).count("test") == 10
    moved = split_patients(patients(20, split="test"), mode="patients", test_fraction=0.25, seed=0, known=first)
    assert set(moved.of_patient.values()) == {"test"}  # the table wins


def test_images_beside_slides_are_taken_only_where_they_are_named(tmp_path):
    for name in ("a.svs", "a_thumbnail.jpg", "mask.png", "b.tif"):
        (tmp_path / name).touch()
    (tmp_path / "t.csv").write_text("path\nmask.png\n")

    def names(slides):
        return [spec.path.name for spec in find_slides(str(tmp_path / slides), SUFFIXES)[0]]

    assert names("") == ["a.svs", "b.tif"]
    assert names("*.png") == ["mask.png"]
    assert names("a_thumbnail.jpg") == ["a_thumbnail.jpg"]
    assert names("t.csv") == ["mask.png"]
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "x.png").touch()
    with pytest.raises(ConfigError, match=r"no slide in it.*slides='.*/images/\*\.png'"):
        names("images")
