"""Make slides of a scanner's size with little tissue: the demo's tissue as an island on glass, for the rehearsal.

    python data_prep/demo/large.py folder=cache/rehearsal/slides num_patients=4 side_px=32768 island_px=2048

A region of 0.15625x at 256 px is 32,768 px wide. Glass is one JPEG tile written many times, so that such a slide takes
seconds and only its tissue costs an encoder time.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from PIL import Image

if __package__ in (None, ""):  # run as a script: the repository's root is not on the path
    sys.path[:0] = [str(Path(__file__).resolve().parents[2] / "src"), str(Path(__file__).resolve().parents[2])]

from data_prep.demo.patient import MPP
from data_prep.demo.slides import JPEG_QUALITY, PYRAMID_STEP, TILE_PX, draw_slide, level_tags, slide_name
from zoomldm.cli import key_values, user_errors, whole_number
from zoomldm.errors import UserError, counted
from zoomldm.files import open_atomically, progress

DEFAULTS = {"num_patients": 4, "side_px": 32768, "island_px": 2048, "seed": 0}


def make_large_slides(
    folder: str | os.PathLike, *, num_patients: int, side_px: int, island_px: int, seed: int
) -> list[Path]:
    """Make one slide a patient, with ``island_px`` of drawn tissue in its corner; return their paths.

    The first is ``side_px`` wide, the others are smaller than a region of 0.15625x, as many real ones are.

    Raises:
        UserError: sizes that are no multiples of a tile, or an island that is larger than the slide.
    """
    for name, value in (("side_px", side_px), ("island_px", island_px)):
        if value < 512 or value % TILE_PX:
            raise UserError(f"{name}={value}: expected a multiple of {TILE_PX}, 512 or more")
    if island_px > side_px or not 1 <= num_patients <= 99:
        raise UserError(
            f"island_px={island_px} side_px={side_px} num_patients={num_patients}: expected 1 to 99 smaller"
        )
    paths = {number: Path(folder) / f"{slide_name(number)}.tif" for number in range(1, num_patients + 1)}
    missing = [number for number, path in paths.items() if not path.exists()]
    for number in progress(missing, total=len(missing), label="large slides", unit="slide"):
        own_px = side_px if number == 1 else min(side_px, 4 * island_px)
        write_island(paths[number], draw_slide(seed, number, island_px), own_px)
    return list(paths.values())


def write_island(path: Path, island: np.ndarray, side_px: int) -> None:
    """Write a pyramid of ``side_px`` with ``island`` (uint8 RGB, square) in its upper left corner, glass elsewhere.

    The glass has the colour of the island's brightest corner.
    """
    corners = island[[0, 0, -1, -1], [0, -1, 0, -1]]
    glass = corners[corners.sum(1).argmax()]
    path.parent.mkdir(parents=True, exist_ok=True)
    mpp, side, is_base = MPP, side_px, True
    with open_atomically(path) as stream, tifffile.TiffWriter(stream, bigtiff=True) as tiff:
        while True:
            tiff.write(
                _jpeg_tiles(island, side, glass),
                shape=(side, side, 3),
                dtype=np.uint8,
                tile=(TILE_PX, TILE_PX),
                photometric="ycbcr",
                compression="jpeg",
                subsampling=(2, 2),
                **level_tags(mpp, is_base),
            )
            if side <= TILE_PX * 2:
                return
            island = np.asarray(Image.fromarray(island).reduce(PYRAMID_STEP))
            side, mpp, is_base = -(-side // PYRAMID_STEP), mpp * PYRAMID_STEP, False


def _jpeg_tiles(island: np.ndarray, side_px: int, glass: np.ndarray) -> Iterator[bytes]:
    """Yield the tiles of a level row by row, each as JPEG; glass is coded once."""
    across, of_glass = -(-side_px // TILE_PX), _jpeg(np.broadcast_to(glass, (TILE_PX, TILE_PX, 3)))
    for row in range(across):
        for column in range(across):
            part = island[row * TILE_PX : (row + 1) * TILE_PX, column * TILE_PX : (column + 1) * TILE_PX]
            if not part.size:
                yield of_glass
                continue
            tile = np.broadcast_to(glass, (TILE_PX, TILE_PX, 3)).copy()
            tile[: part.shape[0], : part.shape[1]] = part
            yield _jpeg(tile)


def _jpeg(tile: np.ndarray) -> bytes:
    return imagecodecs.jpeg8_encode(
        np.ascontiguousarray(tile), level=JPEG_QUALITY, colorspace="RGB", outcolorspace="YCBCR", subsampling="420"
    )


def main(argv: Sequence[str]) -> None:
    """Read key=value words and make the slides."""
    words = key_values(argv, ("folder", *DEFAULTS))
    if not (folder := words.pop("folder", "")):
        raise UserError("folder: missing; say where the slides go, for example folder=cache/rehearsal/slides")
    paths = make_large_slides(folder, **DEFAULTS | {key: whole_number(key, value) for key, value in words.items()})
    print(f"{counted(len(paths), 'slide')} in {paths[0].parent}")


if __name__ == "__main__":
    with user_errors():
        main(sys.argv[1:])
