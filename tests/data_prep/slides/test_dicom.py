"""Whole-slide DICOM made here (TILED_FULL, JPEG tiles) and opened by OpenSlide."""

import numpy as np
import openslide
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import JPEGBaseline8Bit, VLWholeSlideMicroscopyImageStorage, generate_uid

from data_prep.slides.companions import companions_of
from data_prep.slides.dicom import read_header
from data_prep.slides.slide import Slide
from data_prep.slides.table import find_slides
from data_prep.work.store import SlideStore
from tests.helpers.prepare import prepare_folder
from tests.helpers.tiny_slides import READERS, SUFFIXES, swapped_profile, tissue_pixels
from tests.helpers.vendor_slides import jpeg_of
from zoomldm.errors import DataError

TILE = 128


def jpeg_tiles(pixels):
    """Return the level's tiles row by row, the last ones filled up with white."""
    height, width = (-(-n // TILE) * TILE for n in pixels.shape[:2])
    full = np.full((height, width, 3), 255, np.uint8)
    full[: pixels.shape[0], : pixels.shape[1]] = pixels
    for y in range(0, height, TILE):
        for x in range(0, width, TILE):
            yield jpeg_of(full[y : y + TILE, x : x + TILE], subsampling="4:2:2")


def write_level(path, pixels, series, *, mpp, level=0, patient="", icc=None, undefined_length=False):
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = VLWholeSlideMicroscopyImageStorage
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ds.ImageType = ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED"] if level else ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    ds.Modality, ds.PatientID, ds.StudyInstanceUID, ds.SeriesInstanceUID = "SM", patient, generate_uid(), series
    other = Dataset()  # a series that is only referred to, before the file's own
    other.SeriesInstanceUID = generate_uid()
    ds.ReferencedSeriesSequence = Sequence([other])
    ds.SamplesPerPixel, ds.PlanarConfiguration, ds.PhotometricInterpretation = 3, 0, "YBR_FULL_422"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.Rows = ds.Columns = TILE
    ds.TotalPixelMatrixRows, ds.TotalPixelMatrixColumns = pixels.shape[:2]
    ds.TotalPixelMatrixFocalPlanes = ds.NumberOfOpticalPaths = 1
    ds.DimensionOrganizationType = "TILED_FULL"
    measures, shared, optical = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [mpp / 1000, mpp / 1000], 0.001
    shared.PixelMeasuresSequence = Sequence([measures])
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    optical.OpticalPathIdentifier, optical.ObjectiveLensPower = "0", 40
    if icc:
        optical.ICCProfile = icc
    ds.OpticalPathSequence = Sequence([optical])
    tiles = list(jpeg_tiles(pixels))
    ds.NumberOfFrames = len(tiles)
    ds.PixelData = encapsulate(tiles)
    ds["PixelData"].is_undefined_length = True
    if undefined_length:
        ds["ReferencedSeriesSequence"].is_undefined_length = True
        other.is_undefined_length_sequence_item = True
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


def write_series(folder, names=("0.dcm", "1.dcm"), *, mpp=0.25, seed=0, series=None, size=(800, 700), **options):
    """Write a level a name, each of half the side; returns the first level's pixels before JPEG."""
    pixels, series = tissue_pixels(*size, seed), series or generate_uid()
    for level, name in enumerate(names):
        step = 2**level
        write_level(folder / name, pixels[::step, ::step], series, mpp=mpp * step, level=level, **options)
    return pixels


def slides_of(slides):
    specs, faults = find_slides(str(slides), SUFFIXES)
    assert faults == []
    return [(spec.name, spec.path.name, spec.patient) for spec in specs]


@pytest.mark.parametrize("undefined_length", [False, True])
def test_the_header_gives_the_files_own_series(tmp_path, undefined_length):
    """Not the one of a series that it refers to, which comes first in the file."""
    path = write_level(
        tmp_path / "a.dcm",
        tissue_pixels(100, 90),
        "1.2.3",
        mpp=0.5,
        patient="P 7",
        undefined_length=undefined_length,
    )
    assert read_header(path) == ("1.2.3", "P 7", VLWholeSlideMicroscopyImageStorage)
    content = path.read_bytes()
    (tmp_path / "short.dcm").write_bytes(content[:300])
    (tmp_path / "noise.dcm").write_bytes(np.random.default_rng(0).bytes(4096))
    (tmp_path / "garbled.dcm").write_bytes(content[:140] + np.random.default_rng(0).bytes(4096))
    for name in ("short", "noise", "garbled"):
        assert read_header(tmp_path / f"{name}.dcm") is None


def test_a_series_is_one_slide_and_its_largest_file_stands_for_it(tmp_path):
    write_series(tmp_path / "case", ("z.dcm", "a.dcm"))
    assert slides_of(tmp_path) == [("case", "z.dcm", "case")]
    assert slides_of(tmp_path / "case" / "a.dcm") == [("case", "z.dcm", "case")]
    assert slides_of(tmp_path / "case" / "*.dcm") == [("case", "z.dcm", "case")]


def test_series_that_share_a_folder_are_slides_of_their_own(tmp_path):
    write_series(tmp_path / "case", ("1.dcm", "2.dcm"), series="1.2.1", patient="TCGA-AA-0001")
    write_series(tmp_path / "case", ("3.dcm", "4.dcm"), series="1.2.2", patient="TCGA-AA-0002", seed=1)
    write_series(tmp_path / "other", ("1.dcm",), series="1.2.3", patient="TCGA-AA-0002")
    expected = [
        ("case-1.2.1", "1.dcm", "TCGA-AA-0001"),
        ("case-1.2.2", "3.dcm", "TCGA-AA-0002"),
        ("other", "1.dcm", "TCGA-AA-0002"),
    ]
    assert slides_of(tmp_path) == expected
    assert slides_of(tmp_path / "case" / "4.dcm") == expected[1:2]
    assert [path.name for path in companions_of(tmp_path / "case" / "3.dcm")] == ["3.dcm", "4.dcm"]


def test_other_dicom_is_left_out_and_what_cannot_be_read_is_reported(tmp_path):
    write_series(tmp_path / "case", ("1.dcm", "2.dcm"), series="1.2.1")
    ct = pydicom.dcmread(tmp_path / "case" / "2.dcm")
    ct.SOPClassUID = ct.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    ct.save_as(tmp_path / "case" / "ct.dcm")
    assert slides_of(tmp_path) == [("case", "1.dcm", "case")]
    (tmp_path / "case" / "3.dcm").write_bytes(b"")
    (tmp_path / "case" / "4.dcm").write_bytes(b"x")
    (whole, broken), _ = find_slides(str(tmp_path), SUFFIXES)
    assert (whole.name, broken.name, broken.path.name) == ("case-1.2.1", "case-unreadable", "4.dcm")
    with pytest.raises(DataError, match="not a slide"):
        Slide(broken, 0.5, READERS)


def test_a_csv_names_a_series_by_its_folder_or_one_of_its_files(tmp_path):
    write_series(tmp_path / "a", patient="P1")
    write_series(tmp_path / "b", ("1.dcm", "2.dcm"), series="1.2.1")
    write_series(tmp_path / "b", ("3.dcm",), series="1.2.2")
    (tmp_path / "empty").mkdir()
    lines = ["path,slide,patient", "a,,", "b/2.dcm,two,P2", "b/1.dcm,again,P2", "b/3.dcm,,", "b,,", "empty,,"]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    specs, faults = find_slides(str(tmp_path / "t.csv"), SUFFIXES)
    assert [(spec.name, spec.path.name, spec.patient) for spec in specs] == [
        ("a", "0.dcm", "P1"),
        ("again", "1.dcm", "P2"),
        ("b-1.2.2", "3.dcm", "b"),
    ]
    reasons = " | ".join(fault.reason for fault in faults)
    for part in ("same DICOM series as slide again", "2 DICOM slides, expected one", "1.dcm, 3.dcm", "0 DICOM slides"):
        assert part in reasons


def test_openslide_reads_the_levels_with_their_scale(tmp_path):
    pixels = write_series(tmp_path / "case")
    (spec,), _ = find_slides(str(tmp_path), SUFFIXES)
    slide = Slide(spec, 0.5, READERS)
    assert (slide.vendor, slide.level_sizes, slide.downsamples) == ("dicom", [(800, 700), (400, 350)], [1.0, 2.0])
    assert (slide.scale.level, slide.scale.box, slide.scale.source) == (1, 1, "mpp of the file")
    assert slide.scale.mpp_level0 == pytest.approx(0.25)
    assert slide.reader.native(1) is None
    read = slide.read_boxes(0, 0, 400, 350)[0]
    assert np.abs(read - pixels[::2, ::2].astype(int)).mean() < 4  # JPEG
    with openslide.OpenSlide(tmp_path / "case" / "1.dcm") as reference:
        assert np.array_equal(read, np.asarray(reference.read_region((0, 0), 1, (400, 350)))[..., :3])
    slide.close()


def test_the_optical_paths_icc_profile_is_applied(tmp_path):
    slides = []
    for name, icc in (("plain", None), ("profiled", swapped_profile())):
        write_series(tmp_path / name, icc=icc)
        slides.append(Slide(find_slides(str(tmp_path / name), SUFFIXES)[0][0], 0.5, READERS))
    plain, profiled = (slide.read_boxes(50, 60, 300, 200)[0].astype(int) for slide in slides)
    assert np.abs(profiled - plain[..., ::-1]).max() <= 1


def test_dicom_slides_become_shards(tmp_path):
    for number in range(2):
        write_series(tmp_path / "slides" / f"case{number}", seed=number, size=(900, 800), patient=f"P{number}")
    manifest = prepare_folder(tmp_path / "slides", tmp_path / "data")
    assert {line["patient"] for line in manifest.slides} == {"P0", "P1"}
    for number in range(2):
        state = SlideStore(tmp_path / "data", f"case{number}").done()
        assert (state.format, state.reader) == ("dicom", "openslide")
        assert state.scale.mpp_true == pytest.approx(0.5)
        assert state.counts["20x"] > 0
