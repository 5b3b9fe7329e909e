"""Make the project's own demo slides: procedurally drawn breast tissue in H&E, as pyramids that OpenSlide reads.

    python data_prep/demo/slides.py folder=demo/slides num_patients=14 side_px=8192 seed=0 workers=2

Every slide is a pure function of (seed, patient, side_px): the same bytes whatever the number of workers or patients.
Where things lie is decided in blueprint.py, how they are coloured in stain.py.
"""

import dataclasses
import json
import multiprocessing
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

if __package__ in (None, ""):  # run as a script: the repository's root is not on the path
    sys.path[:0] = [str(Path(__file__).resolve().parents[2] / "src"), str(Path(__file__).resolve().parents[2])]

from data_prep.demo.blueprint import draw_blueprint
from data_prep.demo.patient import MPP, draw_patient
from data_prep.demo.stain import Renderer
from data_prep.execution.parent import follow_parent
from zoomldm.cli import key_values, user_errors, whole_number
from zoomldm.errors import UserError, counted
from zoomldm.files import open_atomically, progress, write_json

DRAWING_VERSION = 1  # raise it when the same seed no longer gives the same slide
RECORD = "demo_slides.json"
TILE_PX = 256
PYRAMID_STEP = 4  # as scanners do: 1, 4, 16, ...
JPEG_QUALITY = 85


def slide_name(number: int) -> str:
    """Return the stem of patient ``number``'s slide."""
    return f"demo-P{number:02d}"


def draw_slide(seed: int, number: int, side_px: int) -> np.ndarray:
    """Draw one patient's slide before compression: uint8 RGB (side_px, side_px, 3) at 0.5 mpp."""
    patient = draw_patient(seed, number)
    return Renderer(patient, draw_blueprint(patient, side_px)).picture()


def write_pyramid(path: Path, picture: np.ndarray, mpp: float) -> None:
    """Write ``picture`` (uint8 RGB) as a tiled JPEG pyramid, ``mpp`` in its resolution tags; whole or not at all."""
    with open_atomically(path) as stream, tifffile.TiffWriter(stream) as tiff:
        level, is_base = picture, True
        while True:
            tiff.write(
                level,
                tile=(TILE_PX, TILE_PX),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": JPEG_QUALITY},
                subsampling=(2, 2),
                maxworkers=1,
                **level_tags(mpp, is_base),
            )
            if max(level.shape[:2]) <= TILE_PX * 2:
                return
            level, is_base, mpp = _reduced(level), False, mpp * PYRAMID_STEP


def level_tags(mpp: float, is_base: bool) -> dict[str, Any]:
    """Return what tifffile is told of a pyramid's level: its scale, and whether others are reduced from it."""
    return {
        "subfiletype": 0 if is_base else 1,
        "resolution": (1e4 / mpp, 1e4 / mpp),
        "resolutionunit": "CENTIMETER",
        "metadata": None,
        "software": "ZoomLDM demo",
    }


def _reduced(picture: np.ndarray) -> np.ndarray:
    """Average blocks of PYRAMID_STEP pixels, some rows at a time."""
    rows = 256 * PYRAMID_STEP
    strips = [Image.fromarray(picture[y : y + rows]).reduce(PYRAMID_STEP) for y in range(0, len(picture), rows)]
    return np.concatenate([np.asarray(strip) for strip in strips])


def _make_slide(path: Path, seed: int, number: int, side_px: int) -> None:
    write_pyramid(path, draw_slide(seed, number, side_px), MPP)


def make_demo_slides(
    folder: str | os.PathLike,
    *,
    seed: int = 0,
    num_patients: int = 14,
    side_px: int = 8192,
    workers: int | None = None,
) -> list[Path]:
    """Make ``num_patients`` slides in ``folder``, one a patient, and return their paths; slides already there are kept.

    Beside them lies demo_slides.json with the parameters and each patient's composition. Slides of other parameters
    are removed and drawn anew; files of other names are never touched.

    Args:
        folder: made if missing.
        seed: of all patients.
        num_patients: 1..99; patient k is the same however many there are.
        side_px: of every slide at 0.5 mpp, a multiple of 256.
        workers: processes, each of about 1 GB; None for one a core.

    Raises:
        UserError: a parameter out of range, a folder that cannot be written, a full disk.
    """
    workers = workers or os.cpu_count() or 1
    _check(seed=seed, num_patients=num_patients, side_px=side_px, workers=workers)
    folder = Path(folder)
    numbers = range(1, num_patients + 1)
    drawing = {"drawing_version": DRAWING_VERSION, "seed": seed, "side_px": side_px, "mpp": MPP}
    patients = {slide_name(number): dataclasses.asdict(draw_patient(seed, number)) for number in numbers}
    _remove_stale(folder, drawing, keep=set(patients))
    write_json(folder / RECORD, {"drawing": drawing, "patients": patients})

    paths = {number: folder / f"{slide_name(number)}.tif" for number in numbers}
    missing = [(path, seed, number, side_px) for number, path in paths.items() if not path.exists()]
    if workers == 1 or len(missing) <= 1:
        for task in progress(missing, total=len(missing), label="demo slides", unit="slide"):
            _make_slide(*task)
    else:
        _make_in_parallel(missing, min(workers, len(missing)))
    return list(paths.values())


def _check(*, seed: int, num_patients: int, side_px: int, workers: int) -> None:
    for name, value, is_sane, expected in (
        ("num_patients", num_patients, 1 <= num_patients <= 99, "1 to 99"),
        ("side_px", side_px, side_px >= 512 and side_px % 256 == 0, "a multiple of 256, 512 or more"),
        ("seed", seed, seed >= 0, "0 or more"),
        ("workers", workers, workers >= 1, "1 or more"),
    ):
        if not is_sane:
            raise UserError(f"{name}={value}: expected {expected}")


def _remove_stale(folder: Path, drawing: dict, keep: set[str]) -> None:
    """Remove slides of another drawing, slides no longer asked for, and slides that no record vouches for."""
    try:
        record = json.loads((folder / RECORD).read_text())
        recorded, is_same = set(record["patients"]), record["drawing"] == drawing
    except (OSError, ValueError, KeyError, TypeError):
        recorded, is_same = set(), False
    for name in (recorded - keep) if is_same else (recorded | keep):
        (folder / f"{name}.tif").unlink(missing_ok=True)


def _make_in_parallel(tasks: Sequence[tuple], workers: int) -> None:
    spawn = multiprocessing.get_context("spawn")  # the caller may run threads, which a fork would break
    pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=follow_parent)
    try:
        futures = [pool.submit(_make_slide, *task) for task in tasks]
        for future in progress(as_completed(futures), total=len(futures), label="demo slides", unit="slide"):
            future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def main(argv: Sequence[str]) -> None:
    """Read key=value words and make the slides."""
    words = key_values(argv, ("folder", "seed", "num_patients", "side_px", "workers"))
    if not words.get("folder"):
        raise UserError("folder: missing; say where the slides go, for example folder=demo/slides")
    folder = words.pop("folder")
    paths = make_demo_slides(folder, **{key: whole_number(key, value) for key, value in words.items()})
    print(f"{counted(len(paths), 'slide')} in {paths[0].parent}")


if __name__ == "__main__":
    with user_errors():
        main(sys.argv[1:])
