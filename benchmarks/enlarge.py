"""Make a large slide of a small one for ``make bench-prep SLIDE=…``: its native JPEG tiles, repeated as they are.

python benchmarks/enlarge.py small.svs large.svs --times 4 --mpp 0.25

Real compressed tissue at any size and scale, without coding it anew; only the lower levels are made here.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image


def repeated_tiles(tiff: tifffile.TiffFile, page: tifffile.TiffPage, times: int) -> Iterator[bytes]:
    """Yield the whole native tiles of a page row by row, all of it ``times`` over in both directions."""
    down, across = page.imagelength // page.tilelength, page.imagewidth // page.tilewidth
    stored_across = -(-page.imagewidth // page.tilewidth)
    for row in range(down * times):
        for column in range(across * times):
            index = row % down * stored_across + column % across
            tiff.filehandle.seek(page.dataoffsets[index])
            yield tiff.filehandle.read(page.databytecounts[index])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="an SVS or TIFF with JPEG tiles")
    parser.add_argument("target", type=Path)
    parser.add_argument("--times", type=int, default=4)
    parser.add_argument("--mpp", type=float, default=0.25, help="scale that the large slide is given")
    args = parser.parse_args()
    if args.times < 1 or not 0.05 <= args.mpp <= 20:
        parser.error(f"--times {args.times}, --mpp {args.mpp:g}: expected 1 or more, and 0.05 to 20")
    try:
        source = tifffile.TiffFile(args.source)
    except (OSError, tifffile.TiffFileError) as error:
        parser.error(f"{args.source}: cannot be read as a TIFF ({error})")
    with source as tiff, tifffile.TiffWriter(args.target, bigtiff=True) as writer:
        page = tiff.pages[0]
        if not page.is_tiled or page.compression != tifffile.COMPRESSION.JPEG:
            parser.error(f"{args.source}: {page.compression.name}, expected JPEG tiles at level 0")
        tile = (page.tilelength, page.tilewidth)
        whole = page.asarray()[: page.imagelength // tile[0] * tile[0], : page.imagewidth // tile[1] * tile[1]]
        height, width = (n * args.times for n in whole.shape[:2])
        head = f"Aperio Image Library x\n{width}x{height}"
        common = {"tile": tile, "photometric": page.photometric, "compression": "jpeg", "metadata": None}
        writer.write(
            repeated_tiles(tiff, page, args.times),
            shape=(height, width, 3),
            dtype=np.uint8,
            jpegtables=page.jpegtables,
            description=f"{head} JPEG/RGB|AppMag = {round(10 / args.mpp)}|MPP = {args.mpp}",
            **common,
        )
        for factor in (4, 16):
            small = np.tile(np.asarray(Image.fromarray(whole).reduce(factor)), (args.times, args.times, 1))
            small = small[: height // factor, : width // factor]
            description = f"{head} -> {small.shape[1]}x{small.shape[0]} JPEG/RGB"
            writer.write(small, compressionargs={"level": 80}, description=description, **common)


if __name__ == "__main__":
    main()
