"""Which DICOM files make one slide: OpenSlide takes a series' files in a folder for the levels of a slide."""

import struct
from dataclasses import dataclass
from pathlib import Path

DICOM_SUFFIX = ".dcm"
WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"  # VL Whole Slide Microscopy Image Storage
CLASS, PATIENT, SERIES = 0x0002_0002, 0x0010_0020, 0x0020_000E
ITEM_END, SEQUENCE_END = 0xFFFE_E00D, 0xFFFE_E0DD
UNDEFINED = 0xFFFF_FFFF
LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}


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


def read_header(path: Path) -> dict[int, str]:
    """Return class, patient and series of a DICOM file by tag, those that it has; nothing behind them is read.

    Raises:
        ValueError: no DICOM, cut short, or not explicit little endian (as OpenSlide's DICOM slides all are).
    """
    found: dict[int, str] = {}
    depth = 0  # of sequences without a length, whose end is marked; those with one are skipped
    with open(path, "rb") as stream:
        if stream.read(132)[128:] != b"DICM":
            raise ValueError("no DICOM")
        while len(head := stream.read(8)) == 8:
            group, element, vr, length = struct.unpack("<HH2sH", head)
            tag = group << 16 | element
            if group == 0xFFFE:
                (length,) = struct.unpack("<I", head[4:])
                depth -= tag == SEQUENCE_END
                if tag in (ITEM_END, SEQUENCE_END) or length == UNDEFINED:
                    continue
            elif not vr.isalpha():
                raise ValueError("not explicit little endian")
            elif depth == 0 and tag > SERIES:
                return found
            elif vr in LONG:
                (length,) = struct.unpack("<I", stream.read(4).ljust(4, b"\0"))
                if length == UNDEFINED:
                    depth += 1
                    continue
            if depth == 0 and tag in (CLASS, PATIENT, SERIES):
                found[tag] = stream.read(length).rstrip(b"\0 ").decode("utf-8", "replace").strip()
            else:
                stream.seek(length, 1)
    raise ValueError("cut short")


def dicom_slides(folder: Path) -> DicomFolder:
    """Return for each whole-slide file of a folder (not its subfolders) the slide that it is a part of.

    DICOM of other kinds is left out. Files whose header cannot be read make up one slide, so that one line reports
    them.
    """
    series: dict[str, list[Path]] = {}
    patients: dict[str, str] = {}
    for path in sorted(p for p in folder.iterdir() if is_dicom(p) and p.is_file()):
        try:
            header = read_header(path)
            if header.get(CLASS) != WHOLE_SLIDE:
                continue
            uid, patient = header.get(SERIES) or "unreadable", header.get(PATIENT, "")
        except (ValueError, OSError):
            uid, patient = "unreadable", ""
        series.setdefault(uid, []).append(path)
        patients.setdefault(uid, patient)
    slides = {}
    folder_name = folder.resolve().name
    for uid, paths in series.items():
        largest = max(paths, key=lambda path: path.stat().st_size)
        name = folder_name if len(series) == 1 else f"{folder_name}-{uid}"
        slides |= dict.fromkeys(paths, DicomSlide(path=largest, name=name, patient=patients[uid] or folder_name))
    return slides
