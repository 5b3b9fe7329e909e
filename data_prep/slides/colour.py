"""Colours of a slide's file brought to sRGB by its ICC profile."""

import io

import numpy as np
import openslide
from einops import rearrange
from PIL import Image, ImageCms

SRGB_TOLERANCE = 1  # grey levels: what rounding alone makes of two profiles that both are sRGB
CUBE_STEPS = 9  # colours along each axis of the cube on which a profile is tried


def icc_transform(profile: ImageCms.ImageCmsProfile | None) -> ImageCms.ImageCmsTransform | None:
    """Return the transform from a profile to sRGB, None where there is none, it changes nothing, or it is damaged.

    Whether it is sRGB already is tried on colours all over the cube, since a profile's name promises nothing.
    """
    if profile is None:
        return None
    try:
        transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), "RGB", "RGB")
        steps = np.linspace(0, 255, CUBE_STEPS).round().astype(np.uint8)
        colours = rearrange(np.stack(np.meshgrid(steps, steps, steps), axis=-1), "r g b c -> r (g b) c")
        moved = np.abs(apply_icc(transform, colours).astype(int) - colours).max()
    except (ImageCms.PyCMSError, ValueError, OSError):
        return None
    return transform if moved > SRGB_TOLERANCE else None


def icc_transform_of(source: openslide.OpenSlide | bytes | None) -> ImageCms.ImageCmsTransform | None:
    """Return ``icc_transform`` of a slide's profile, or of one as files hold it; None if it is damaged."""
    try:
        if isinstance(source, openslide.OpenSlide):
            return icc_transform(source.color_profile)
        return icc_transform(ImageCms.ImageCmsProfile(io.BytesIO(source))) if source else None
    except (ImageCms.PyCMSError, openslide.OpenSlideError, OSError):
        return None


def apply_icc(transform: ImageCms.ImageCmsTransform, pixels: np.ndarray) -> np.ndarray:
    """Return (h, w, 3) uint8 in sRGB."""
    return np.asarray(ImageCms.applyTransform(Image.fromarray(np.ascontiguousarray(pixels)), transform))
