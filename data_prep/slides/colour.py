"""Colours of a slide's file brought to sRGB by its ICC profile."""

import io
from dataclasses import dataclass

import numpy as np
import openslide
from einops import rearrange
from PIL import Image, ImageCms

SRGB_TOLERANCE = 1  # grey levels: what rounding alone makes of two profiles that both are sRGB
CUBE_STEPS = 9  # colours along each axis of the cube on which a profile is tried


APPLIED, NONE, DAMAGED = "applied", "none", "damaged"  # the last: or not of RGB


@dataclass(frozen=True)
class Colour:
    """What a file's profile asks for: a transform to sRGB, or none; and in a word which, for the slide's state."""

    transform: ImageCms.ImageCmsTransform | None = None
    status: str = NONE


def colour_of(source: openslide.OpenSlide | bytes | None) -> Colour:
    """Return what the profile of a slide, or one as files hold it, asks for; nothing where it changes no colour.

    Whether it is sRGB already is tried on colours all over the cube, since a profile's name promises nothing.
    """
    try:
        if isinstance(source, openslide.OpenSlide):
            profile = source.color_profile
        else:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(source)) if source else None
        if profile is None:
            return Colour()
        transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), "RGB", "RGB")
        steps = np.linspace(0, 255, CUBE_STEPS).round().astype(np.uint8)
        colours = rearrange(np.stack(np.meshgrid(steps, steps, steps), axis=-1), "r g b c -> r (g b) c")
        moved = np.abs(apply_icc(transform, colours).astype(int) - colours).max()
    except (ImageCms.PyCMSError, openslide.OpenSlideError, ValueError, OSError):
        return Colour(status=DAMAGED)
    return Colour(transform, APPLIED) if moved > SRGB_TOLERANCE else Colour()


def apply_icc(transform: ImageCms.ImageCmsTransform, pixels: np.ndarray) -> np.ndarray:
    """Return (h, w, 3) uint8 in sRGB."""
    return np.asarray(ImageCms.applyTransform(Image.fromarray(np.ascontiguousarray(pixels)), transform))
