"""All files that a slide's reader opens, of formats that keep one slide in several."""

from pathlib import Path

from data_prep.slides.dicom import dicom_slides, is_dicom
from data_prep.slides.files import files_of

HAMAMATSU_INDEXES = frozenset({".vms", ".vmu"})


def companions_of(path: Path) -> list[Path]:
    """Return a slide's files, itself among them: with a MIRAX its folder, of DICOM the series, of VMS what it names.

    Raises:
        OSError: it cannot be read.
        DataError: a MIRAX slide without its folder.
    """
    if is_dicom(path):
        slides = dicom_slides(path.parent)
        return [file for file, slide in slides.items() if slide == slides.get(path)] or [path]
    if path.suffix.lower() in HAMAMATSU_INDEXES:
        lines = path.read_text(encoding="latin-1").splitlines()
        named = {line.partition("=")[2].strip() for line in lines} - {""}
        return [path, *(path.parent / name for name in sorted(named) if (path.parent / name).is_file())]
    return files_of(path)
