"""Which DICOM files make one slide: OpenSlide takes a series' files in a folder for the levels of a slide."""

from dataclasses import dataclass
from pathlib import Path

DICOM_SUFFIX = ".dcm"
WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"  # VL Whole Slide Microscopy Image Storage
HEADER_TAGS = ["SOPClassUID", "PatientID", "SeriesInstanceUID"]


@dataclass(frozen=True)
class DicomSlide:
    """One series in a folder.

    Attributes:
        path: its largest file, in practice level 0; any file of a series opens the whole slide.
        name: the folder's, with the series' UID behind it where the folder holds more than one.
        patient: the files' PatientID, else the folder's name: series beside each other are held for one patient's.
    """

    path: Path
    name: str
    patient: str


DicomFolder = dict[Path, DicomSlide]  # file: the slide that it is a part of


def is_dicom(path: Path) -> bool:
    return path.suffix.lower() == DICOM_SUFFIX


def read_header(path: Path) -> tuple[str, str, str] | None:
    """Return series, patient and class of a DICOM file, None where it is none or is cut short; pixels are not read."""
    from pydicom import config, dcmread
    from pydicom.errors import InvalidDicomError

    try:
        with config.disable_value_validation():
            header = dcmread(path, stop_before_pixels=True, specific_tags=HEADER_TAGS)
            series, patient, kind = (
                str(header.get(name, "")) for name in ("SeriesInstanceUID", "PatientID", "SOPClassUID")
            )
    except (InvalidDicomError, OSError, EOFError, ValueError, TypeError, LookupError, AttributeError):
        return None  # pydicom says the same of damaged files in many ways
    return (series, patient, kind) if series else None


def dicom_slides(folder: Path) -> DicomFolder:
    """Return for each whole-slide file of a folder (not its subfolders) the slide that it is a part of.

    DICOM of other kinds is left out. Files whose header cannot be read make up one slide, so that one line reports
    them.
    """
    series: dict[str, list[Path]] = {}
    patients: dict[str, str] = {}
    for path in sorted(p for p in folder.iterdir() if is_dicom(p) and p.is_file()):
        uid, patient, kind = read_header(path) or ("unreadable", "", WHOLE_SLIDE)
        if kind != WHOLE_SLIDE:
            continue
        series.setdefault(uid, []).append(path)
        patients.setdefault(uid, patient)
    slides = {}
    folder_name = folder.resolve().name
    for uid, paths in series.items():
        largest = max(paths, key=lambda path: path.stat().st_size)
        name = folder_name if len(series) == 1 else f"{folder_name}-{uid}"
        slides |= dict.fromkeys(paths, DicomSlide(path=largest, name=name, patient=patients[uid] or folder_name))
    return slides
