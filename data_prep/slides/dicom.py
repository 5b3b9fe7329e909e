"""Which DICOM files make one slide: OpenSlide takes a series' files in a folder for the levels of a slide."""

from dataclasses import dataclass
from pathlib import Path

from zoomldm.errors import DataError

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

    try:
        with config.disable_value_validation():
            header = dcmread(path, stop_before_pixels=True, specific_tags=HEADER_TAGS)
            series, patient, kind = (
                str(header.get(name, "")) for name in ("SeriesInstanceUID", "PatientID", "SOPClassUID")
            )
    except Exception:  # pydicom says of damaged files that they are in many ways
        return None
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


def dicom_named(path: Path, folders: dict[Path, DicomFolder]) -> tuple[Path, str, str]:
    """Return file, name and patient of a DICOM slide, given by one of its files or by its folder.

    Args:
        folders: those read so far; a folder is read once for all lines.

    Raises:
        DataError: a folder without DICOM slides, or with several.
    """
    folder = path if path.is_dir() else path.parent
    if folder not in folders:
        folders[folder] = dicom_slides(folder) if folder.is_dir() else {}
    if path != folder:
        slide = folders[folder].get(path)
        return (slide.path, slide.name, slide.patient) if slide else (path, path.stem, "")
    slides = sorted(set(folders[folder].values()), key=lambda slide: slide.path)
    if len(slides) != 1:
        files = ", ".join(slide.path.name for slide in slides)
        hint = f"give each a line with its file: {files}" if slides else "give the slide's file"
        raise DataError(f"{path}: a folder with {len(slides)} DICOM slides, expected one; {hint}")
    return slides[0].path, slides[0].name, slides[0].patient
