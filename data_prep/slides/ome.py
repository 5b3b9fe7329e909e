"""The scale that an OME-TIFF states in its OME-XML."""

import re

MICROMETRES = {"m": 1e6, "cm": 1e4, "mm": 1e3, "µm": 1.0, "μm": 1.0, "um": 1.0, "&#181;m": 1.0, "nm": 1e-3, "Å": 1e-4}
"""By the symbols of OME's units; both signs for micro are in use."""


def ome_properties(description: str | None) -> dict[str, str]:
    """Return micrometres a pixel of the first image under OpenSlide's names; empty where they are not stated."""
    pixels = re.search(r"<(?:\w+:)?Pixels\b[^>]*>", description or "")
    if not pixels or "openmicroscopy.org" not in (description or ""):
        return {}
    told = dict(re.findall(r'(PhysicalSize[XY](?:Unit)?)="([^"]*)"', pixels[0]))
    found = {}
    for axis in "XY":
        unit = MICROMETRES.get(told.get(f"PhysicalSize{axis}Unit", "µm"))
        try:
            size = float(told[f"PhysicalSize{axis}"])
        except (KeyError, ValueError):
            continue
        if unit is not None:
            found[f"openslide.mpp-{axis.lower()}"] = f"{size * unit:.9g}"
    return found
