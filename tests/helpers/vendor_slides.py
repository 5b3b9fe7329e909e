"""Slides in the layouts of two scanners, written as OpenSlide's format pages describe them: NDPI and MIRAX."""

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from zoomldm.data.schema import encode_image

SHORT, LONG, RATIONAL, FLOAT, SIGNED = 3, 4, 5, 11, 9  # types of TIFF values


def jpeg_of(pixels: np.ndarray, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "JPEG", quality=95, **options)
    return stream.getvalue()


def restart_places(jpeg: bytes) -> list[int]:
    """Return where the intervals of a JPEG's scan begin, counted from its start."""
    scan = jpeg.index(b"\xff\xda")
    first = scan + 2 + struct.unpack(">H", jpeg[scan + 2 : scan + 4])[0]
    markers = [i + 2 for i in range(first, len(jpeg) - 1) if jpeg[i] == 0xFF and 0xD0 <= jpeg[i + 1] <= 0xD7]
    return [first, *markers]


def write_ndpi(
    path: Path, pixels: np.ndarray, *, mpp: float | None = 0.23, lens: float = 40.0, tile_width: int = 512
) -> Path:
    """Write an NDPI as Hamamatsu's scanners do: each level one JPEG strip, a restart interval a tile of 8 rows.

    Levels of 1/1 and 1/4 of the side, then the macro image; directories with 64-bit pointers behind a TIFF's header.

    Args:
        pixels: (h, w, 3); 32 divides h, and 4 * tile_width divides w.
    """
    height, width = pixels.shape[:2]
    levels = [(pixels, 1), (pixels[::4, ::4], 4)]
    assert width % (4 * tile_width) == 0
    assert height % 32 == 0
    out = bytearray(b"II\x2a\x00" + bytes(8))
    pointer = 4
    images = [(level, factor, lens) for level, factor in levels] + [(pixels[::16, ::8], None, -1.0)]
    for image, factor, source_lens in images:
        options = {"restart_marker_blocks": tile_width // 16} if factor else {}
        jpeg = jpeg_of(image, subsampling="4:2:2", **options)
        strip = len(out)
        out += jpeg
        entries = [
            (256, LONG, [image.shape[1]]),
            (257, LONG, [image.shape[0]]),
            (258, SHORT, [8, 8, 8]),
            (259, SHORT, [7]),
            (262, SHORT, [6]),
            (273, LONG, [strip]),
            (277, SHORT, [3]),
            (278, LONG, [image.shape[0]]),
            (279, LONG, [len(jpeg)]),
            *([(n, RATIONAL, [round(1e8 / (mpp * factor)), 10_000]) for n in (282, 283)] if mpp and factor else []),
            (296, SHORT, [3]),
            (65420, LONG, [1]),
            (65421, FLOAT, [source_lens]),
            (65424, SIGNED, [0]),
            *([(65426, LONG, restart_places(jpeg))] if factor else []),
        ]
        pointer = _append_directory(out, pointer, entries)
    path.write_bytes(out)
    return path


def _append_directory(out: bytearray, pointer: int, entries: list[tuple[int, int, list]]) -> int:
    """Append a TIFF directory, name it at ``pointer``, and return where the next one's place will be named."""
    codes = {SHORT: "H", LONG: "I", RATIONAL: "I", FLOAT: "f", SIGNED: "i"}
    body = bytearray(struct.pack("<H", len(entries)))
    for tag, kind, values in entries:
        content = struct.pack(f"<{len(values)}{codes[kind]}", *values)
        if len(content) > 4:
            place = len(out)
            out += content
            content = struct.pack("<I", place)
        count = len(values) // (2 if kind == RATIONAL else 1)
        body += struct.pack("<HHI", tag, kind, count) + content.ljust(4, b"\0")
    struct.pack_into("<Q", out, pointer, len(out))
    pointer = len(out) + len(body)
    out += body + bytes(8 + 4 * len(entries))  # the next directory, and the high words of every value
    return pointer


def write_mrxs(
    path: Path,
    pixels: np.ndarray,
    *,
    mpp: float = 0.25,
    image_px: int = 256,
    overlap_px: int = 16,
    empty: tuple[tuple[int, int], ...] = (),
    levels: int = 3,
    image_format: str = "JPEG",
) -> Path:
    """Write a MIRAX slide: ``path``, and beside it the folder with Slidedat.ini, Index.dat and Data0000.dat.

    The camera's photos overlap by ``overlap_px`` at level 0; photos in ``empty`` (y, x) were never taken. A photo of
    level n + 1 joins 2 x 2 of level n.
    """
    step = image_px - overlap_px
    down, across = (-(-(n - overlap_px) // step) for n in pixels.shape[:2])
    down, across = (-(-n // 2 ** (levels - 1)) * 2 ** (levels - 1) for n in (down, across))
    canvas = np.full((down * step + overlap_px, across * step + overlap_px, 3), 255, np.uint8)
    canvas[: pixels.shape[0], : pixels.shape[1]] = pixels
    photos = {
        (y, x): canvas[y * step : y * step + image_px, x * step : x * step + image_px]
        for y in range(down)
        for x in range(across)
        if (y, x) not in empty and (y * step < pixels.shape[0] and x * step < pixels.shape[1])
    }
    folder = path.with_suffix("")
    folder.mkdir(parents=True)
    path.write_bytes(jpeg_of(canvas[::16, ::16]))
    identity = "0123456789ABCDEF0123456789ABCDEF"
    data, index = bytearray(identity.encode()), bytearray(b"01.02" + identity.encode())
    roots = len(index)
    index += bytes(8)
    struct.pack_into("<I", index, roots, len(index))
    level_pointers = len(index)
    index += bytes(4 * levels)
    for level in range(levels):
        records = b""
        for (y, x), photo in sorted(photos.items()):
            coded = jpeg_of(photo, subsampling="4:4:4") if image_format == "JPEG" else encode_image(photo)
            number = (y << level) * across + (x << level)
            records += struct.pack("<4i", number, len(data), len(coded), 0)
            data += coded
        struct.pack_into("<I", index, level_pointers + 4 * level, len(index))
        index += struct.pack("<iI", 0, len(index) + 8)
        index += struct.pack("<ii", len(records) // 16, 0) + records
        photos = _joined(photos, image_px)
    (folder / "Data0000.dat").write_bytes(data)
    (folder / "Index.dat").write_bytes(index)
    lines = ["[GENERAL]", "SLIDE_VERSION = 01.02", f"SLIDE_ID = {identity}"]
    lines += [f"IMAGENUMBER_X = {across}", f"IMAGENUMBER_Y = {down}", "OBJECTIVE_MAGNIFICATION = 40"]
    lines += ["CameraImageDivisionsPerSide = 1", "[HIERARCHICAL]", "HIER_COUNT = 1", "NONHIER_COUNT = 0"]
    lines += ["INDEXFILE = Index.dat", "HIER_0_NAME = Slide zoom level", f"HIER_0_COUNT = {levels}"]
    lines += [f"HIER_0_VAL_{n}_SECTION = LAYER_0_LEVEL_{n}_SECTION" for n in range(levels)]
    lines += ["[DATAFILE]", "FILE_COUNT = 1", "FILE_0 = Data0000.dat"]
    for level in range(levels):
        lines += [f"[LAYER_0_LEVEL_{level}_SECTION]", f"IMAGE_CONCAT_FACTOR = {int(level > 0)}"]
        lines += [f"OVERLAP_{axis} = {overlap_px / 2**level}" for axis in "XY"]
        lines += [f"MICROMETER_PER_PIXEL_{axis} = {mpp * 2**level}" for axis in "XY"]
        lines += ["IMAGE_FILL_COLOR_BGR = 16777215", f"IMAGE_FORMAT = {image_format}"]
        lines += [f"DIGITIZER_WIDTH = {image_px}", f"DIGITIZER_HEIGHT = {image_px}"]
    (folder / "Slidedat.ini").write_text("\n".join(lines) + "\n")
    return path


def _joined(photos: dict[tuple[int, int], np.ndarray], image_px: int) -> dict[tuple[int, int], np.ndarray]:
    """Halve photos and join them two by two each way; what was never taken is white."""
    half, joined = image_px // 2, {}
    for (y, x), photo in photos.items():
        target = joined.setdefault((y // 2, x // 2), np.full((image_px, image_px, 3), 255, np.uint8))
        small = np.asarray(Image.fromarray(np.ascontiguousarray(photo)).reduce(2))
        top, left = y % 2 * half, x % 2 * half
        target[top : top + half, left : left + half] = small
    return joined
