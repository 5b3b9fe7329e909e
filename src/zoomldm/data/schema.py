"""What a sample is: its key, its columns and the bytes of each field.

Legend: p patch side in pixels, S grid side (2^k), n tissue cells of a grid, D embedding width.

A sample's columns lie in parallel tars, with the same keys in the same order. A member of a tar is ``KEY.FIELD``:

    image   png | jpg              the patch, RGB, (p, p, 3) uint8
    grid    cells.npy, rows.npy    (S, S) uint16 and (1 + n, D) float16; the grid is ``rows[cells]``, row 0 is glass
    meta    json                   ``SampleMeta``
    latent  latent.npy             (c, h, w) float16, before quantisation, unscaled
    variants  variants.npy         (7, c, h, w) float16, the latents of the patch flipped and turned (dihedral.py)
    reference  png                 the patch again, lossless, for the samples chosen by ``is_reference``
"""

import hashlib
import io
import json
import re
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

TRAIN, TEST = SPLITS = ("train", "test")
COLUMNS = ("image", "grid", "meta", "latent", "variants", "reference")
IMAGE_EXTENSIONS = {"png": "png", "jpeg": "jpg"}
MAX_SLIDE_NAME = 64  # so that KEY.FIELD stays within the 100 characters of a plain tar header
JPEG_QUALITY = 95

_KEY = re.compile(r"(?P<slide>.+)_r(?P<side>\d+)_x(?P<x>-?\d+)_y(?P<y>-?\d+)")


def fields_of(column: str, image_format: str = "png") -> tuple[str, ...]:
    """Return the fields of a column in the order in which they lie in the tar."""
    if column == "image":
        return (IMAGE_EXTENSIONS[image_format],)
    return {
        "grid": ("cells.npy", "rows.npy"),
        "meta": ("json",),
        "latent": ("latent.npy",),
        "variants": ("variants.npy",),
        "reference": ("png",),
    }[column]


@dataclass(frozen=True, kw_only=True)
class SampleMeta:
    """Where a patch came from.

    Attributes:
        x_px0, y_px0, region_px0: the region's corner and side in level-0 pixels of the slide.
        mpp_nominal: micrometres a pixel of the patch by the ladder; ``mpp_true`` what the slide's scale makes it.
        tissue: fraction of the region that is tissue by the mask.
        labels: further columns of the slide table.
    """

    key: str
    magnification: float
    slide: str
    patient: str
    split: str
    x_px0: int
    y_px0: int
    region_px0: int
    mpp_nominal: float
    mpp_true: float
    tissue: float
    labels: dict[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=False).encode()

    @classmethod
    def decode(cls, content: bytes) -> "SampleMeta":
        return cls(**json.loads(content))


def slide_key(slide: str) -> str:
    """Return a slide's name as it stands in keys: no dot (webdataset splits there), no separator, 64 characters.

    A longer name, or one of which anything but dots had to be replaced, ends in eight digits of its SHA-256, so that
    two slides do not meet.
    """
    name = slide.replace(".", "_")
    safe = re.sub(r"[^A-Za-z0-9_+=@-]", "-", name)
    if safe == name and len(safe) <= MAX_SLIDE_NAME:
        return safe
    return safe[: MAX_SLIDE_NAME - 9] + "-" + hashlib.sha256(slide.encode()).hexdigest()[:8]


def make_key(slide: str, grid_side: int, x_px0: int, y_px0: int) -> str:
    """Return a sample's key, ``<slide>_r<grid side>_x<level-0 x>_y<level-0 y>``, without a dot."""
    return f"{slide_key(slide)}_r{grid_side}_x{x_px0}_y{y_px0}"


def parse_key(key: str) -> tuple[str, int, int, int]:
    """Return (slide as in keys, grid side, x_px0, y_px0).

    Raises:
        ValueError: not a sample's key.
    """
    match = _KEY.fullmatch(key)
    if not match:
        raise ValueError(f"{key!r} is not a sample key (SLIDE_r8_x0_y0)")
    return match["slide"], int(match["side"]), int(match["x"]), int(match["y"])


def hash_fraction(text: str, salt: str = "") -> float:
    """Return a number in [0, 1) that depends on the text alone: for choices that must not change with the order."""
    return int.from_bytes(hashlib.sha256(f"{salt}{text}".encode()).digest()[:8], "big") / 2**64


def is_reference(key: str, fraction: float) -> bool:
    """Say whether a sample belongs to the lossless reference set of this fraction (nested for growing fractions)."""
    return hash_fraction(key, "reference:") < fraction


def encode_npy(array: np.ndarray) -> bytes:
    """Return an array as .npy bytes, C order."""
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(array, order="C"), allow_pickle=False)
    return buffer.getvalue()


def decode_npy(content: bytes) -> np.ndarray:
    """Return the (read-only) array of .npy bytes without a copy of its data.

    Raises:
        ValueError: not the bytes of an .npy file, or cut short.
    """
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read_header(stream)
    if fortran or dtype.hasobject:
        raise ValueError("expected a C-ordered array of plain numbers")
    count = int(np.prod(shape, dtype=np.int64))
    return np.frombuffer(content, dtype, count, stream.tell()).reshape(shape)


def encode_grid(cells: np.ndarray, rows: np.ndarray) -> dict[str, bytes]:
    """Return the fields of a grid.

    Args:
        cells: (S, S) indices into ``rows``, below 65,536.
        rows: (1 + n, D); row 0 is the slide's glass.
    """
    if cells.ndim != 2 or cells.shape[0] != cells.shape[1] or rows.ndim != 2:
        raise ValueError(f"expected cells (S, S) and rows (1 + n, D), got {cells.shape} and {rows.shape}")
    if len(rows) > 1 << 16 or (cells.size and (cells.min() < 0 or cells.max() >= len(rows))):
        raise ValueError(f"cells reach {int(cells.max())}, rows hold {len(rows)} (65,536 at most)")
    return {"cells.npy": encode_npy(cells.astype(np.uint16)), "rows.npy": encode_npy(rows.astype(np.float16))}


def decode_grid(fields: dict[str, bytes]) -> np.ndarray:
    """Return the dense grid, (S, S, D) float16."""
    return decode_npy(fields["rows.npy"])[decode_npy(fields["cells.npy"])]


def encode_image(pixels: np.ndarray, image_format: str = "png") -> bytes:
    """Return (p, p, 3) uint8 as PNG (lossless) or as JPEG, quality 95, 4:4:4."""
    pixels = np.ascontiguousarray(pixels)
    if image_format == "jpeg":
        import imagecodecs

        return bytes(imagecodecs.jpeg8_encode(pixels, level=JPEG_QUALITY, subsampling="444"))
    if image_format != "png":
        raise ValueError(f"image format {image_format!r}: expected png or jpeg")
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def decode_image(content: bytes) -> np.ndarray:
    """Return the pixels of a PNG or JPEG, (p, p, 3) uint8."""
    from PIL import Image

    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))
