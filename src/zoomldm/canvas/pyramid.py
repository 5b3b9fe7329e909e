"""Write a slide as a tiled, pyramidal OME-TIFF that slide readers and viewers open.

Lower magnifications are SubIFDs, as OME wants; they are also chained behind the first image, where OpenSlide looks for
them. So one file serves both kinds of readers.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from zoomldm.canvas.plan import Level
from zoomldm.canvas.store import CanvasStore
from zoomldm.files import open_atomically, remove_temporaries

TILE_PX = 256
OME = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
SUB_IFDS = 330
MARK, SETTINGS = "SYNTHETIC", "settings"
"""What a mark says, and the fact that holds how a slide was drawn, as JSON."""


@dataclass(frozen=True)
class Pyramid:
    """How a slide is written.

    Attributes:
        compression: ``deflate`` keeps every pixel, ``jpeg`` (quality 95, colour at full size) is several times smaller.
        mark: write `MARK` into the lower left corner of every level.
        name: of the image; facts: what the metadata say of its making.
    """

    compression: Literal["deflate", "jpeg"]
    mark: bool
    name: str
    facts: Mapping[str, str]

    def write(self, path: Path, store: CanvasStore, levels: Sequence[Level]) -> None:
        """Write levels, coarsest first, to a file that takes its name only when it is whole."""
        import tifffile

        options = {"deflate": {"compression": "zlib", "compressionargs": {"level": 6}, "predictor": True}}
        options["jpeg"] = {"compression": "jpeg", "compressionargs": {"level": 95}, "subsampling": (1, 1)}
        remove_temporaries(path.parent, of=path.name)
        with open_atomically(path, "w+b") as stream:
            with tifffile.TiffWriter(stream, bigtiff=True) as writer:
                for place, level in enumerate(reversed(levels)):
                    stamp, pixels_a_cm = _stamp(level) if self.mark else None, 1e4 / level.rung.mpp
                    writer.write(
                        _tiles(store, levels[: len(levels) - place], stamp),
                        shape=(level.height_px, level.width_px, 3),
                        dtype=np.uint8,
                        photometric="rgb",
                        tile=(TILE_PX, TILE_PX),
                        resolution=(pixels_a_cm, pixels_a_cm),
                        resolutionunit="CENTIMETER",
                        subifds=len(levels) - 1 if place == 0 else 0,
                        subfiletype=0 if place == 0 else 1,
                        description=self._description(levels[-1]).encode() if place == 0 else None,
                        metadata=None,
                        software="ZoomLDM",
                        **options[self.compression],
                    )
            _chain(stream)

    def _description(self, level: Level) -> str:
        """Return the OME-XML of the finest level."""
        facts = "".join(f"<M K={quoteattr(key)}>{escape(value)}</M>" for key, value in self.facts.items())
        size = f'SizeX="{level.width_px}" SizeY="{level.height_px}" SizeC="3" SizeZ="1" SizeT="1"'
        scale = "".join(f'PhysicalSize{axis}="{level.rung.mpp}" PhysicalSize{axis}Unit="µm" ' for axis in "XY")
        return (
            f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{OME}" '
            'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
            f'xsi:schemaLocation="{OME} {OME}/ome.xsd"><Instrument ID="Instrument:0">'
            f'<Objective ID="Objective:0" NominalMagnification="{level.rung.magnification:g}"/></Instrument>'
            f'<Image ID="Image:0" Name={quoteattr(self.name)}><InstrumentRef ID="Instrument:0"/>'
            '<ObjectiveSettings ID="Objective:0"/>'
            f'<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" Interleaved="true" {size} {scale}>'
            '<Channel ID="Channel:0:0" SamplesPerPixel="3"/><TiffData IFD="0" PlaneCount="1"/></Pixels>'
            '<AnnotationRef ID="Annotation:0"/></Image><StructuredAnnotations><MapAnnotation ID="Annotation:0">'
            f"<Value>{facts}</Value></MapAnnotation></StructuredAnnotations></OME>"
        )


def settings_in(path: Path) -> dict[str, Any] | None:
    """Return the fact `SETTINGS` of a slide that was written here; None for any other file."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as tiff:
            described = ElementTree.fromstring(tiff.ome_metadata or "<none/>")
    except (tifffile.TiffFileError, ElementTree.ParseError):
        return None
    facts = {one.get("K"): one.text for one in described.iter(f"{{{OME}}}M")}
    return json.loads(facts[SETTINGS]) if SETTINGS in facts else None


def _tiles(store: CanvasStore, levels: Sequence[Level], stamp: np.ndarray | None) -> Iterator[np.ndarray]:
    """Yield the last level's tiles row by row, uint8 (TILE_PX, TILE_PX, 3), those at its ends filled up with white."""
    level = levels[-1]
    for top in range(0, level.height_px, TILE_PX):
        for left in range(0, level.width_px, TILE_PX):
            bottom, right = min(top + TILE_PX, level.height_px), min(left + TILE_PX, level.width_px)
            tile = np.full((TILE_PX, TILE_PX, 3), 255, np.uint8)
            tile[: bottom - top, : right - left] = store.shown(levels, top, left, bottom, right)
            if stamp is not None:
                under = top - (level.height_px - len(stamp))  # row of the stamp at the tile's top
                part = stamp[max(0, under) : under + TILE_PX, left : left + TILE_PX]
                tile[max(0, -under) :, : part.shape[1]][: len(part)][part] = 0
            yield tile


def _stamp(level: Level) -> np.ndarray:
    """Return the mark for a level's lower left corner, bool (h, w), a quarter of its width."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=max(6, level.width_px / 4 / (0.62 * len(MARK))))
    box = [round(side) for side in font.getbbox(MARK)]
    image = Image.new("L", (min(box[2] + 4, level.width_px), min(box[3] + 4, level.height_px)))
    ImageDraw.Draw(image).text((2, 0), MARK, fill=255, font=font)
    return np.asarray(image) > 127


def _chain(stream: IO[bytes]) -> None:
    """Make each SubIFD of a BigTIFF's first image the next image of the one before it."""
    import tifffile

    stream.seek(0)
    with tifffile.TiffFile(stream) as tiff:
        first, order = tiff.pages[0], tiff.byteorder
        below = first.tags[SUB_IFDS].value if SUB_IFDS in first.tags else ()
        offsets = [first.offset, *([below] if isinstance(below, int) else below)]
    for offset, following in zip(offsets, [*offsets[1:], 0]):
        stream.seek(offset)
        (num_tags,) = struct.unpack(f"{order}Q", stream.read(8))
        stream.seek(offset + 8 + 20 * num_tags)
        stream.write(struct.pack(f"{order}Q", following))
