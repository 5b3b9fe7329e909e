"""``texture``: a fixed descriptor of colour, contrast at five octaves, orientation and how the scales go together.

It needs no weights, is never fitted, and conditions no model, so it can judge one that ``stats`` conditions.
Its numbers are bounded, so that a few patches of bare glass do not decide a distance.

Legend: n patches, h w pixels, k blocks a patch, u v frequencies of an 8×8 cosine transform.
"""

import numpy as np

from zoomldm.errors import UserError
from zoomldm.features.base import Descriptor

VERSION = 2  # 2: bounded
BLOCK_PX = 8
COARSE = 4  # the second transform runs on 4×4 box means: two octaves below the first one's three
MIN_PATCH_PX = BLOCK_PX * COARSE
# Energies below this are the rounding of uint8 (variance 1/12 of a step of about 0.4 in L*), not structure.
ENERGY_FLOOR = 0.02
# Largest distance from the centre, in spreads. Bare glass stands 10 to 15 away in every energy, and a few such patches
# among a hundred were all that a distance saw: halves of real 20x patches 5.0 ± 4.6, with the bound 1.1 ± 0.6.
BOUND = 4.0

# name, centre, spread: rounded over real H&E tissue patches (CMU-1, 20x to 1.25x, 32 px), so that a distance of 1 is
# about one standard deviation of real tissue in one number. Fixed: part of the definition, fitted to no data set.
COMPONENTS: tuple[tuple[str, float, float], ...] = (
    ("mean_L", 60.0, 13.0),
    ("mean_a", 21.0, 8.0),
    ("mean_b", -9.0, 4.5),
    ("log_sd_L", 2.95, 0.3),
    ("log_sd_a", 2.4, 0.35),
    ("log_sd_b", 1.9, 0.25),
    ("skew_L", -0.1, 0.6),
    ("octave_0", 4.1, 0.7),
    ("octave_1", 5.9, 0.6),
    ("octave_2", 7.3, 0.75),
    ("octave_3", 5.8, 1.0),
    ("octave_4", 7.0, 1.5),
    ("chroma_fine", 3.9, 0.6),
    ("chroma_coarse", 5.1, 1.3),
    ("corr_L_a", -0.6, 0.35),
    ("coherence_fine", 0.6, 0.1),
    ("coherence_coarse", 0.6, 0.2),
    ("fine_in_dark", -0.15, 0.5),
    ("fine_with_coarse", 0.55, 0.35),
    ("sparsity", -0.35, 0.12),
)


class TextureDescriptor(Descriptor):
    """Describe a patch by 20 numbers in CIE Lab: moments, band energies, orientation, correlations across scales."""

    name = "texture"
    distance_name = "fd_texture"
    dim = len(COMPONENTS)
    fingerprint = f"texture-v{VERSION}"

    def describe(self, images: np.ndarray) -> np.ndarray:
        raw = raw_components(images)
        centre, spread = np.array([row[1:] for row in COMPONENTS]).T
        return BOUND * np.tanh((raw - centre) / spread / BOUND)


def raw_components(images: np.ndarray) -> np.ndarray:
    """Return the components of ``COMPONENTS`` before centring, float64 (n, 20).

    Raises:
        UserError: the patches are smaller than 32 px, the coarsest block.
    """
    height, width = images.shape[1:3]
    if min(height, width) < MIN_PATCH_PX:
        raise UserError(
            f"features=texture: patches of {height}×{width} px, expected {MIN_PATCH_PX} px or more a side; "
            "choose features=stats or larger patches"
        )
    lab = lab_of(images)
    light, red = lab[..., 0], lab[..., 1]
    fine, coarse = block_spectra(light), block_spectra(box_mean(light, COARSE))
    red_fine, red_coarse = block_spectra(red), block_spectra(box_mean(red, COARSE))
    # Band energy of each block, then of the patch; the high octave's map is needed block by block.
    blocks_high, blocks_mid = band_energy(fine, 4, 16), band_energy(fine, 1, 4)
    columns = [
        *moments(lab),
        log_energy(blocks_high.mean(1)),
        log_energy(band_energy(fine, 2, 4).mean(1)),
        log_energy(band_energy(fine, 1, 2).mean(1)),
        log_energy(band_energy(coarse, 2, 4).mean(1)),
        log_energy(band_energy(coarse, 1, 2).mean(1)),
        log_energy(band_energy(red_fine, 2, 16).mean(1)),
        log_energy(band_energy(red_coarse, 1, 4).mean(1)),
        correlation(flat(light), flat(red), floor=1.0),
        coherence(light),
        coherence(box_mean(light, COARSE)),
        correlation(log_energy(blocks_high), fine[..., 0, 0] / BLOCK_PX, floor=0.1),
        correlation(log_energy(blocks_high), log_energy(blocks_mid), floor=0.1),
        sparsity(light),
    ]
    return np.stack(columns, axis=1)


def lab_of(images: np.ndarray) -> np.ndarray:
    """Convert uint8 sRGB (n, h, w, 3) to CIE Lab under D65, L* in 0..100, float32, cut to whole coarse blocks."""
    from skimage.color import rgb2lab

    height, width = (side - side % MIN_PATCH_PX for side in images.shape[1:3])
    top, left = ((full - cut) // 2 for full, cut in zip(images.shape[1:3], (height, width)))
    return rgb2lab(images[:, top : top + height, left : left + width].astype(np.float32) / 255).astype(np.float32)


def moments(lab: np.ndarray) -> list[np.ndarray]:
    """Return mean of L, a, b; log standard deviation of each; skewness of L."""
    pixels = lab.reshape(len(lab), -1, 3).astype(np.float64)
    mean, sd = pixels.mean(1), pixels.std(1)
    skew = ((pixels[..., 0] - mean[:, :1]) ** 3).mean(1) / (sd[:, 0] + 0.5) ** 3
    return [*mean.T, *np.log(sd + 0.25).T, np.clip(skew, -4, 4)]


def box_mean(channel: np.ndarray, factor: int) -> np.ndarray:
    """Average ``factor``×``factor`` boxes of (n, h, w)."""
    n, height, width = channel.shape
    return channel.reshape(n, height // factor, factor, width // factor, factor).mean((2, 4))


def block_spectra(channel: np.ndarray) -> np.ndarray:
    """Return the orthonormal cosine transform of every 8×8 block, (n, k, u, v)."""
    from scipy.fft import dctn

    n, height, width = channel.shape
    rows, columns = height // BLOCK_PX, width // BLOCK_PX
    blocks = channel.reshape(n, rows, BLOCK_PX, columns, BLOCK_PX).swapaxes(2, 3)
    return dctn(blocks.reshape(n, rows * columns, BLOCK_PX, BLOCK_PX), axes=(2, 3), norm="ortho")


def band_energy(spectra: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return the mean squared coefficient with radial frequency in [low, high), for each block, (n, k)."""
    index = np.arange(BLOCK_PX)
    radius = np.hypot(index[:, None], index[None, :])
    return (spectra[..., (radius >= low) & (radius < high)].astype(np.float64) ** 2).mean(-1)


def log_energy(energy: np.ndarray) -> np.ndarray:
    return np.log(energy + ENERGY_FLOOR)


def flat(channel: np.ndarray) -> np.ndarray:
    return channel.reshape(len(channel), -1).astype(np.float64)


def correlation(a: np.ndarray, b: np.ndarray, *, floor: float) -> np.ndarray:
    """Return Pearson's correlation along the last axis; ``floor`` draws it to 0 where either hardly varies."""
    a, b = a - a.mean(-1, keepdims=True), b - b.mean(-1, keepdims=True)
    return (a * b).mean(-1) / np.sqrt(((a**2).mean(-1) + floor**2) * ((b**2).mean(-1) + floor**2))


def coherence(light: np.ndarray) -> np.ndarray:
    """Return how far the gradients share one direction, 0 (all directions) to 1 (stripes), mean over the patch.

    (λ₁ - λ₂) / (λ₁ + λ₂) of the structure tensor over 4×4 neighbourhoods, weighted by gradient energy.
    """
    down, right = np.diff(light, axis=1)[:, :, :-1], np.diff(light, axis=2)[:, :-1, :]
    side = min(light.shape[1] // 4, light.shape[2] // 4) * 4 - 4
    tensor = [box_mean(product[:, :side, :side], 4) for product in (down * down, right * right, down * right)]
    yy, xx, xy = (part.astype(np.float64) for part in tensor)
    strength = np.sqrt((yy - xx) ** 2 + 4 * xy**2)
    return strength.mean((1, 2)) / ((yy + xx).mean((1, 2)) + ENERGY_FLOOR)


def sparsity(light: np.ndarray) -> np.ndarray:
    """Return log(mean |r| / rms r) of the finest residual r: -0.23 for Gaussian noise, lower for few strong edges."""
    residual = flat(
        light[:, 1:-1, 1:-1]
        - 0.25 * (light[:, :-2, 1:-1] + light[:, 2:, 1:-1] + light[:, 1:-1, :-2] + light[:, 1:-1, 2:])
    )
    rms = np.sqrt((residual**2).mean(1))
    return np.log((np.abs(residual).mean(1) + 0.08) / (rms + 0.1))
