"""Random numbers that belong to a sample, not to a batch.

Each draw is a pure function of (seed, stream, sample number, position in the sample): a counter-based generator, the
splitmix64 mix (Steele, Lea and Flood, 2014), evaluated on the device. So neither the batch size nor the number of
devices nor a resumed run changes what noise a sample meets. Integers agree everywhere; the logarithm and cosine behind
the normal draws may differ in the last bit between kinds of device.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor

_INCREMENT, _MIX_1, _MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_WORD = 1 << 64


def keyed_uniform(seed: int, sample_numbers: Tensor, shape: Sequence[int] = (), *, stream: str) -> Tensor:
    """Draw float32 (b, *shape) from [0, 1) for int64 sample numbers (b,), on their device."""
    bits = _bits(seed, sample_numbers, math.prod(shape), stream)
    return (_shift_right(bits, 40).float() * 2.0**-24).reshape(-1, *shape)


def keyed_normal(seed: int, sample_numbers: Tensor, shape: Sequence[int], *, stream: str = "noise") -> Tensor:
    """Draw float32 (b, *shape) from the standard normal for int64 sample numbers (b,), on their device."""
    count = math.prod(shape)
    bits = _bits(seed, sample_numbers, (count + 1) // 2, stream)
    radius = torch.sqrt(-2 * torch.log((_shift_right(bits, 32).float() + 1) * 2.0**-32))
    angle = (bits & 0xFFFFFFFF).float() * (2 * math.pi * 2.0**-32)
    draws = torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)
    return draws[:, :count].reshape(-1, *shape)


def keyed_noise_of_any_level(
    seed: int, sample_numbers: Tensor, shape: Sequence[int], *, largest: float, level: str, stream: str
) -> Tensor:
    """Draw normal noise float32 (b, *shape) whose deviation is drawn from 0 up to ``largest`` for each sample.

    Args:
        level, stream: of the deviation's draws, and of the noise's.
    """
    deviation = largest * keyed_uniform(seed, sample_numbers, stream=level)
    noise = keyed_normal(seed, sample_numbers, shape, stream=stream)
    return noise * deviation.reshape(-1, *[1] * len(shape))


def keyed_timesteps(seed: int, sample_numbers: Tensor, num_timesteps: int, *, stream: str = "timestep") -> Tensor:
    """Draw int64 timesteps (b,) from 0 .. num_timesteps - 1."""
    return (keyed_uniform(seed, sample_numbers, stream=stream) * num_timesteps).long()


def keyed_dropout(seed: int, sample_numbers: Tensor, probability: float, *, stream: str = "dropout") -> Tensor:
    """Draw bool (b,): whether each sample loses its condition."""
    return keyed_uniform(seed, sample_numbers, stream=stream) < probability


def _bits(seed: int, sample_numbers: Tensor, count: int, stream: str) -> Tensor:
    """Draw 64 random bits as int64 (b, count)."""
    key = int.from_bytes(hashlib.blake2b(f"{seed}/{stream}".encode(), digest_size=8).digest(), "little")
    sample_keys = _mix(sample_numbers.long() * _signed(_INCREMENT) + _signed(key))
    positions = torch.arange(1, count + 1, device=sample_numbers.device) * _signed(_INCREMENT)
    return _mix(sample_keys[:, None] + positions)


def _mix(word: Tensor) -> Tensor:
    """Scramble int64 words so that each input bit reaches each output bit; products wrap modulo 2^64."""
    word = (word ^ _shift_right(word, 30)) * _signed(_MIX_1)
    word = (word ^ _shift_right(word, 27)) * _signed(_MIX_2)
    return word ^ _shift_right(word, 31)


def _shift_right(word: Tensor, places: int) -> Tensor:
    """Shift int64 as if unsigned."""
    return (word >> places) & ((1 << (64 - places)) - 1)


def _signed(word: int) -> int:
    """Read a 64-bit word as the signed integer with the same bits."""
    return word - _WORD if word >= _WORD // 2 else word
