"""The slides to prepare: a folder, a glob or a CSV becomes a list of ``SlideSpec`` and a list of what was wrong."""

import csv
import glob
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_prep.slides.dicom import DicomFolder, dicom_named, dicom_slides, is_dicom
from data_prep.slides.files import FLAT_SUFFIXES, ZARR_SUFFIX, conversion_of
from zoomldm.data.schema import SPLITS, slide_key
from zoomldm.errors import ConfigError, DataError, near_match

TCGA_BARCODE = re.compile(r"(TCGA-[A-Z0-9]{2}-[A-Z0-9]{4})(-\d{2}[A-Z]?-\d{2}-([A-Z]{2}))?", re.IGNORECASE)
FROZEN = {"TS", "BS", "MS"}
KNOWN_COLUMNS = ("path", "slide", "patient", "split", "mpp", "tissue_preset", "icc", "exclude")
YES, NO = ("true", "yes", "1"), ("false", "no", "0")


@dataclass(frozen=True, kw_only=True)
class SlideSpec:
    """A slide to prepare: a line of the slide table.

    Attributes:
        split: train or test, None where the seed decides.
        mpp: micrometres a pixel of level 0 by the table, which wins over the file.
        spare_mpp: the same for a file that does not say.
        tissue: what finds its tissue, a section of conf/tissue, where that is another than the other slides'; as
            ``find_slides`` has it, its name alone.
        icc: whether its colour profile is applied, where that is not as with the other slides.
        labels: further columns of the table, by name.
    """

    path: Path
    name: str
    patient: str
    split: str | None = None
    mpp: float | None = None
    spare_mpp: float | None = None
    tissue: dict[str, Any] | None = None
    icc: bool | None = None
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SlideFault:
    """A line of the table that cannot become a slide."""

    path: str
    name: str
    reason: str


def patient_of(name: str) -> str:
    """Return a TCGA barcode's first 12 characters, otherwise the name itself."""
    match = TCGA_BARCODE.match(name)
    return match[1].upper() if match else name


def is_frozen(name: str) -> bool:
    """Say whether a TCGA barcode is that of a frozen section (-TS, -MS or -BS)."""
    match = TCGA_BARCODE.match(name)
    return bool(match and match[3] and match[3].upper() in FROZEN)


def find_slides(
    slides: str, suffixes: Collection[str], mpp: float | None = None
) -> tuple[list[SlideSpec], list[SlideFault]]:
    """Read the slide table, sorted by name.

    Args:
        slides: a folder (searched with its subfolders), a glob, one slide, or a CSV with a ``path`` column and
            optionally slide, patient, split, mpp, tissue_preset, icc, exclude, and further columns, which become
            labels. A DICOM series is one slide, of whichever of its files ``slides`` names some.
        suffixes: of the files that are slides in a folder: those of the readers but PNG and JPEG, which beside slides
            are thumbnails, masks and screenshots; a glob, a CSV or the file itself names those that are slides.
        mpp: scale of slides that have none of their own.

    Raises:
        ConfigError: no such folder or file, no slide in it, a CSV without the path column.
    """
    path = Path(slides).expanduser()
    if path.suffix.lower() == ".csv":
        specs, faults = _from_csv(path, mpp)
    else:
        specs, faults = _named(_paths(slides, path, suffixes), mpp), []
    if path.suffix.lower() != ".csv" and path.is_dir():
        faults = [_zarr_fault(p) for p in (path, *sorted(path.rglob(f"*{ZARR_SUFFIX}"))) if is_zarr(p)]
    specs, doubles = _without_doubles(sorted(specs, key=lambda spec: (spec.name, str(spec.path))))
    if not specs and not faults:
        expected = ", ".join(sorted(set(suffixes) - FLAT_SUFFIXES))
        raise ConfigError(
            f"slides={slides}: no slide in it; expected files that end in {expected}; PNG and JPEG images are taken "
            f"where they are named, as by slides='{slides}/*.png'"
        )
    return specs, faults + doubles


def is_zarr(path: Path) -> bool:
    """Say whether a folder is an OME-Zarr, which nothing here reads."""
    return path.suffix.lower() == ZARR_SUFFIX and path.is_dir()


def _zarr_fault(path: Path) -> SlideFault:
    return SlideFault(str(path), path.stem, f"{path}: OME-Zarr is not read; {conversion_of(path)}")


def _paths(slides: str, path: Path, suffixes: Collection[str]) -> list[Path]:
    if path.is_dir():
        found = [
            p
            for p in path.rglob("*")
            if p.suffix.lower() in set(suffixes) - FLAT_SUFFIXES
            and not any(part.startswith(".") for part in p.relative_to(path).parts)
        ]
        return [p for p in found if not p.is_dir()]
    if path.is_file():
        return [path]
    found = [Path(p) for p in glob.glob(str(path), recursive=True) if Path(p).is_file()]
    if not found:
        raise ConfigError(f"slides={slides}: no such folder or file, and nothing matches it as a glob")
    return [p for p in found if p.suffix.lower() != ".csv"]


def _named(paths: list[Path], mpp: float | None) -> list[SlideSpec]:
    """Return a spec a slide: one a file, but one for all the DICOM files of a series."""
    folders = {folder: dicom_slides(folder) for folder in {path.parent for path in paths if is_dicom(path)}}
    specs = {}
    for path in paths:
        if is_dicom(path) and (slide := folders[path.parent].get(path)):
            specs[slide.path] = SlideSpec(
                path=slide.path, name=slide.name, patient=patient_of(slide.patient), spare_mpp=mpp
            )
        elif not is_dicom(path) or len(paths) == 1:  # DICOM of another kind is reported only where it alone was given
            name = path.name[: -len(path.suffix)]
            specs[path] = SlideSpec(path=path, name=name, patient=patient_of(name), spare_mpp=mpp)
    return list(specs.values())


def excluded_in(slides: str) -> list[str]:
    """Return the slides, by the path of their line, that a CSV's column ``exclude`` leaves out."""
    path = Path(slides).expanduser()
    lines = _lines_of(path) if path.suffix.lower() == ".csv" else []
    return [line["path"] for line in lines if line.get("exclude", "").lower() in YES]


def _lines_of(path: Path) -> list[dict[str, str]]:
    """Read a CSV's lines by column.

    Raises:
        ConfigError: unreadable, or without the path column.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            columns = [(name or "").strip() for name in reader.fieldnames or []]
            reader.fieldnames = columns
            lines = [{k: (v or "").strip() for k, v in line.items() if k} for line in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"slides={path}: cannot be read as a CSV ({error})") from error
    if "path" not in columns:
        hint = near_match("path", columns)
        raise ConfigError(f"slides={path}: no column 'path';{hint} its columns are {', '.join(columns) or 'none'}")
    return lines


def _from_csv(path: Path, mpp: float | None) -> tuple[list[SlideSpec], list[SlideFault]]:
    specs, faults, folders = [], [], {}
    for number, line in enumerate(_lines_of(path), 2):
        try:
            if not _said(line, "exclude"):
                specs.append(_spec_of(path, line, mpp, folders))
        except DataError as error:
            faults.append(
                SlideFault(line["path"], line.get("slide") or f"line {number}", f"{path}, line {number}: {error}")
            )
    return specs, faults


def _spec_of(table: Path, line: dict[str, str], mpp: float | None, folders: dict[Path, DicomFolder]) -> SlideSpec:
    if not line["path"]:
        raise DataError("no path")
    path = Path(line["path"]).expanduser()
    path = path if path.is_absolute() else table.parent / path
    if is_zarr(path):
        raise DataError(_zarr_fault(path).reason)
    own_name, own_patient = path.name.removesuffix(path.suffix), ""
    if is_dicom(path) or path.is_dir():
        path, own_name, own_patient = dicom_named(path, folders)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    name = line.get("slide") or own_name
    if any(ord(character) < 32 for character in name):
        raise DataError(f"slide {name!r}: expected a name without control characters")
    split = line.get("split") or None
    if split not in (None, *SPLITS):
        raise DataError(f"split {split!r}, expected train or test (or nothing)")
    try:
        own_mpp = float(line["mpp"]) if line.get("mpp") else None
    except ValueError as error:
        raise DataError(f"mpp {line['mpp']!r} is not a number") from error
    labels = {k: v for k, v in line.items() if k not in KNOWN_COLUMNS}
    patient = line.get("patient") or patient_of(own_patient or name)
    return SlideSpec(
        path=path,
        name=name,
        patient=patient,
        split=split,
        mpp=own_mpp,
        spare_mpp=mpp,
        tissue={"name": line["tissue_preset"]} if line.get("tissue_preset") else None,
        icc=_said(line, "icc"),
        labels=labels,
    )


def _said(line: dict[str, str], column: str) -> bool | None:
    """Return what a line says in a column of yes and no, None where it says nothing.

    Raises:
        DataError: another word.
    """
    word = line.get(column, "").lower()
    if word not in ("", *YES, *NO):
        raise DataError(f"{column} {line[column]!r}, expected {' or '.join([YES[0], NO[0]])} (or nothing)")
    return word in YES if word else None


def _without_doubles(specs: list[SlideSpec]) -> tuple[list[SlideSpec], list[SlideFault]]:
    kept: dict[str, SlideSpec] = {}
    series: dict[Path, SlideSpec] = {}
    faults = []
    for spec in specs:
        if is_dicom(spec.path) and (first := series.setdefault(spec.path, spec)) is not spec:
            reason = f"{spec.path}: the same DICOM series as slide {first.name}; give one line to a series"
            faults.append(SlideFault(str(spec.path), spec.name, reason))
            continue
        first = kept.setdefault(slide_key(spec.name), spec)
        if first is not spec:
            reason = (
                f"{spec.path}: the same slide name as {first.path}; rename it, or name both in a CSV (slide column)"
            )
            faults.append(SlideFault(str(spec.path), spec.name, reason))
    return list(kept.values()), faults
