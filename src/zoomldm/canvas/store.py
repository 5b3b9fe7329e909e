"""What a growing slide has drawn so far: tokens and pixels by level and block, each file whole or absent.

<folder>/<magnification>/<top>-<left>.tokens.safetensors     of a block's patches, float32 (rows, columns, n, d)
                         <top>-<left>.region.png             of a block and its halo, before the borders are blended
                         <top>-<left>.png                    of a block, as it stays
                         given.safetensors                   what was known of the level before it was drawn
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from zoomldm.canvas.given import GivenLevel
from zoomldm.canvas.plan import Block, Level
from zoomldm.errors import DataError
from zoomldm.files import remove, write_atomically

TOKENS, REGION, PIXELS, GIVEN = "tokens.safetensors", "region.png", "png", "given.safetensors"
KEPT_BLOCKS = 64


class CanvasStore:
    """Read and write what belongs to a slide.

    Args:
        block: patches along a block's side.
    """

    def __init__(self, folder: Path, *, block: int) -> None:
        self.folder, self.block = folder, block
        self._image = lru_cache(KEPT_BLOCKS)(_read_png)
        self._tokens = lru_cache(KEPT_BLOCKS)(_read_tokens)
        self._read_given = lru_cache(1)(_read_given)

    def path(self, level: Level, block: Block, kind: str) -> Path:
        """Return where something of a block lies, drawn already or not."""
        return self.folder / level.rung.label / f"{block.name}.{kind}"

    def lacks(self, level: Level, kind: str) -> list[Block]:
        """Return the blocks of a level of which this is not there yet."""
        return [block for block in level.blocks(self.block) if not self.path(level, block, kind).is_file()]

    def write_tokens(self, level: Level, block: Block, tokens: np.ndarray) -> None:
        from safetensors.numpy import save

        write_atomically(self.path(level, block, TOKENS), save({"tokens": np.ascontiguousarray(tokens, np.float32)}))

    def write_given(self, level: Level, given: GivenLevel) -> None:
        from safetensors.numpy import save

        write_atomically(self._given_path(level), save({k: np.ascontiguousarray(v) for k, v in vars(given).items()}))

    def given(self, level: Level) -> GivenLevel | None:
        """Read what was known of a level before it was drawn; None where nothing was."""
        path = self._given_path(level)
        return self._read_given(path) if path.is_file() else None

    def _given_path(self, level: Level) -> Path:
        return self.folder / level.rung.label / GIVEN

    def write_image(self, level: Level, block: Block, kind: str, pixels: np.ndarray) -> None:
        """Write uint8 (h, w, 3), without loss."""
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
        write_atomically(self.path(level, block, kind), stream.getvalue())

    def region(self, level: Level, block: Block) -> np.ndarray:
        """Read a block with its halo, uint8 (h, w, 3)."""
        return self._image(self.path(level, block, REGION))

    def pixels(self, level: Level, area: Block) -> np.ndarray:
        """Read an area that is given in patches of the level, uint8 (h, w, 3)."""
        side = level.patch_px
        return self.window(level, area.top * side, area.left * side, area.bottom * side, area.right * side)

    def window(self, level: Level, top: int, left: int, bottom: int, right: int) -> np.ndarray:
        """Read an area that is given in pixels of the level, uint8 (h, w, 3)."""
        return self._gather(level, (top, left, bottom, right), level.patch_px, lambda p: self._image(p), PIXELS)

    def shown(self, levels: Sequence[Level], top: int, left: int, bottom: int, right: int) -> np.ndarray:
        """Read an area in pixels of the last level; what is not drawn is the level above, each pixel four times."""
        part, side = levels[-1].part, levels[-1].patch_px
        y0, x0 = max(top, part.top * side), max(left, part.left * side)
        y1, x1 = min(bottom, part.bottom * side), min(right, part.right * side)
        if (y0, x0, y1, x1) == (top, left, bottom, right):
            return self.window(levels[-1], top, left, bottom, right)
        above = self.shown(levels[:-1], top // 2, left // 2, -(-bottom // 2), -(-right // 2))
        found = above.repeat(2, 0).repeat(2, 1)[top % 2 :, left % 2 :][: bottom - top, : right - left]
        if y0 < y1 and x0 < x1:
            found[y0 - top : y1 - top, x0 - left : x1 - left] = self.window(levels[-1], y0, x0, y1, x1)
        return found

    def tokens(self, level: Level, area: Block) -> np.ndarray:
        """Read the tokens of an area, float32 (rows, columns, n, d)."""
        bounds = (area.top, area.left, area.bottom, area.right)
        return self._gather(level, bounds, 1, lambda p: self._tokens(p), TOKENS)

    def forget_regions(self, level: Level) -> None:
        """Remove what only the blending of a level needed."""
        for path in (self.folder / level.rung.label).glob(f"*.{REGION}"):
            remove(path)

    def _gather(
        self, level: Level, bounds: tuple[int, int, int, int], unit: int, read: Callable[[Path], np.ndarray], kind: str
    ) -> np.ndarray:
        """Put an area together from the blocks that it touches; ``unit``: rows of an array for a patch's side."""
        top, left, bottom, right = bounds
        step, found = self.block * unit, None
        first_y, first_x = level.part.top * unit, level.part.left * unit
        for y in range(top - (top - first_y) % step, bottom, step):
            for x in range(left - (left - first_x) % step, right, step):
                place = Block(y // unit, x // unit, 0, 0)
                part = read(self.path(level, place, kind))
                found = np.empty((bottom - top, right - left, *part.shape[2:]), part.dtype) if found is None else found
                y0, x0, y1, x1 = max(y, top), max(x, left), min(y + step, bottom), min(x + step, right)
                found[y0 - top : y1 - top, x0 - left : x1 - left] = part[y0 - y : y1 - y, x0 - x : x1 - x]
        if found is None:
            raise ValueError(f"an empty area of {level.rung.label}: {bounds}")
        return found


def _read_png(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error}); delete it and run the command again") from error


def _read_tokens(path: Path) -> np.ndarray:
    return _read_arrays(path, "tokens")["tokens"]


def _read_given(path: Path) -> GivenLevel:
    return GivenLevel(**_read_arrays(path, *(one.name for one in fields(GivenLevel))))


def _read_arrays(path: Path, *names: str) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        found = load_file(path)
        return {name: found[name] for name in names}
    except (OSError, SafetensorError, KeyError) as error:
        raise DataError(f"{path}: cannot be read ({error}); delete it and run the command again") from error
