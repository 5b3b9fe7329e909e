"""How long a preparation takes, part by part: what is to be done, and the rate at which it is done on one core."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from data_prep.execution.encoding.own import get_encoder
from zoomldm.config import Option
from zoomldm.encoder.base import Encoder
from zoomldm.errors import UserError

# Measured on one core (docs/data.md): a JPEG slide's pixels decoded and summed to base pixels; these folded and written
# as patches; pixels brought to sRGB; samples and bytes packed.
READ_PX_S, FOLD_PX_S, ICC_PX_S = 1.7e8, 7.5e7, 4.3e7
PACK_SAMPLES_S, PACK_BYTES_S = 1500, 2.5e8
GUESSED_PX_S = 2.5e7
"""Of a network on a GPU, where the encoder cannot be made to be timed."""
TIMED_S, MOST_TILES = 0.5, 256


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is to be done: pixels read, those of them under a colour profile, base pixels, tiles, samples, bytes."""

    num_read_px: int
    num_icc_px: int
    num_base_px: int
    num_tiles: int
    num_samples: int
    num_bytes: float


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Tiles a second of an encoder, on what, and how that is known."""

    tiles_s: float
    device: str
    source: str


def speed_of(option: Option, patch_px: int) -> Speed:
    """Time the encoder as workers would use it, for a second; where it cannot be made (no weights), guess."""
    try:
        encoder = get_encoder(option)
    except UserError:
        return Speed(tiles_s=GUESSED_PX_S / patch_px**2, device="a GPU", source="a guess: it cannot be made here")
    rng, most = np.random.default_rng(0), encoder.batch_size or MOST_TILES
    number, took_s = 1, 0.0
    while True:
        tiles = rng.integers(0, 256, (number, patch_px, patch_px, 3), np.uint8)
        began = time.perf_counter()
        encoder(tiles)
        took_s = time.perf_counter() - began
        if number == most or took_s > TIMED_S:
            return Speed(tiles_s=number / took_s, device=_device_of(encoder), source="measured now")
        number = min(2 * number, most)


def _device_of(encoder: Encoder) -> str:
    if encoder.weights_sha256 is None:
        return "a core"
    import torch

    return "a GPU" if torch.cuda.is_available() else "a core"


def hour_lines(work: Work, speed: Speed) -> Iterator[str]:
    """Yield a line for each part: how long, and by which rate."""
    read_s = work.num_read_px / READ_PX_S + work.num_base_px / FOLD_PX_S
    yield _line("reading", read_s, "a core", f"{READ_PX_S / 1e6:.0f} M pixels a second in JPEG, patches written")
    if work.num_icc_px:
        rate = f"{ICC_PX_S / 1e6:.0f} M pixels a second; slide.icc=false leaves it out"
        yield _line("colour profiles", work.num_icc_px / ICC_PX_S, "a core", rate)
    yield _line(
        "encoding",
        work.num_tiles / speed.tiles_s,
        speed.device,
        f"{work.num_tiles:,} tiles at {speed.tiles_s:,.0f} a second, {speed.source}",
    )
    pack_s = work.num_samples / PACK_SAMPLES_S + work.num_bytes / PACK_BYTES_S
    rate = f"{PACK_SAMPLES_S:,} samples and {PACK_BYTES_S / 1e6:.0f} MB a second, on a local disk"
    yield _line("packing", pack_s, "a core", rate)


def _line(name: str, seconds: float, device: str, rate: str) -> str:
    return f"{name:>16} {readable_hours(seconds / 3600):>12} of {device} ({rate})"


def readable_hours(hours: float) -> str:
    """Return a duration as people say it: 12 s, 3 min, 45.2 hours."""
    if hours >= 1:
        return f"{hours:,.1f} hours"
    return f"{hours * 60:.0f} min" if hours * 60 >= 2 else f"{hours * 3600:.0f} s"
