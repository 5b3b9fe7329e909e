"""How well slide.py sharpens pictures of places that the model that ships has not seen, and what it makes of them.

python benchmarks/sharpen.py --regions 6                table and picture: docs/sharpen.jpg
python benchmarks/sharpen.py --places                   one place inpainted, outpainted, re-imagined: docs/places.jpg

Slides are painted from a seed that no model was trained with. A region of 2.5x (32 px) is zoomed into down to 20x
(256 px), as a user would, and compared with the painted region at 5x, 10x and 20x: PSNR and SSIM of each region, mean
and standard error, and fd_texture of all patches. Beside it bicubic enlargement, and what the autoencoder leaves of the
painted region, which no drawing can surpass but by luck.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from benchmarks.slides import SEED, SIDE_PX, drawn, gradient, painted, patches, sheet
from zoomldm.canvas.plan import Level
from zoomldm.commands import slide
from zoomldm.commands.requests import packed_model
from zoomldm.commands.slide_source import source_of
from zoomldm.composing import compose_jobs
from zoomldm.config import PROJECT_ROOT
from zoomldm.errors import UserError
from zoomldm.evaluation.distances import frechet
from zoomldm.features.texture import TextureDescriptor
from zoomldm.sampling.generator import reconstruct
from zoomldm.sampling.sources.base import AreaLevel

SLIDES = 4
TIMES = {1: "2x", 2: "4x", 3: "8x"}
HELD = ("agreement.until=0.3", "agreement.reach=1", "agreement.final=2")
WAYS: dict[str, tuple[str, ...]] = {
    "drawn": (),
    "drawn, held to the picture": HELD,
    "the same, the place's own tokens": HELD,
}
BICUBIC, BOUND, REAL = "bicubic", "autoencoder", "real"


def whole(work: Path, *words: str) -> tuple[list[Level], list[np.ndarray], np.ndarray]:
    """Run slide.py; return its levels, the pixels of each, and the tokens of the roots."""
    levels, (store,) = drawn(work, *words)
    return levels, [store.pixels(level, level.part) for level in levels], store.tokens(levels[0], levels[0].part)


def place(slides: Path, number: int, x: int, y: int) -> list[str]:
    """Return what names a place of 2.5x."""
    path = slides / f"demo-P{1 + number % SLIDES:02d}.tif"
    return ["source=slide", f"source.slide={path}", f"source.x={x}", f"source.y={y}", "root=2.5"]


def regions(slides: Path, num: int) -> Iterator[tuple[list[str], list[AreaLevel]]]:
    """Yield places with tissue all over, and what lies there at 2.5x, 5x, 10x and 20x."""
    generator, found = np.random.default_rng(SEED), 0
    while found < num:
        words = place(slides, found, *generator.integers(600, SIDE_PX - 600, 2).tolist())
        (cfg,) = compose_jobs("slide", ["out=any.ome.tiff", "model=reference", *words])
        levels = slide.drawn_levels(cfg, source := source_of(cfg))
        try:
            areas = source.area([level.rung for level in levels], 1, 1)
        except UserError:
            continue
        if areas[0].conditions.meta[0].tissue > 0.8:
            found += 1
            yield words, areas


def sharpened(work: Path, words: list[str], areas: Sequence[AreaLevel], errors: dict[str, list[float]]) -> dict:
    """Return by way the region at each magnification below the root."""
    (cfg,) = compose_jobs("slide", ["out=any.ome.tiff", "model=reference"])
    trained = packed_model(cfg).load("", wants_edm=True)
    with torch.inference_mode():
        own = trained.model.module.tokens(areas[0].conditions.grids, areas[0].conditions.rung)
        found = {REAL: [area.pixels for area in areas[1:]]}
        image = [torch.from_numpy(area.pixels.copy()).permute(2, 0, 1)[None] for area in areas[1:]]
        found[BOUND] = [reconstruct(trained.autoencoder.module, one)[0] for one in image]
    root = Image.fromarray(areas[0].pixels)
    found[BICUBIC] = [np.asarray(root.resize(one.shape[1::-1], Image.BICUBIC)) for one in found[REAL]]
    root.save(work / "root.png")
    picture = ["source=image", f"source.path={work / 'root.png'}", "source.magnification=2.5"]
    for number, (way, more) in enumerate(WAYS.items()):
        source = words if "own" in way else picture
        _, pixels, tokens = whole(work / f"way{number}", *source, *more)
        found[way] = pixels[1:]
        edm = trained.edm.module
        apart = edm.standardise(torch.from_numpy(tokens[0])) - edm.standardise(own.cpu())
        errors[way].append(float(apart.square().mean()))
    return found


def table(found: Sequence[dict], errors: dict[str, list[float]]) -> dict[str, Any]:
    """Return figures by magnification and way."""
    descriptor, result = TextureDescriptor(), {}
    for k, times in enumerate(TIMES.values()):
        vectors = {
            way: np.concatenate([descriptor.describe(patches(one[way][k])) for one in found]) for way in found[0]
        }
        for way in (BICUBIC, *WAYS, BOUND):
            pairs = [(one[REAL][k], one[way][k]) for one in found]
            psnr = [peak_signal_noise_ratio(*pair) for pair in pairs]
            ssim = [structural_similarity(*pair, channel_axis=2) for pair in pairs]
            result[f"{times} {way}"] = {
                "psnr": [np.mean(psnr), np.std(psnr, ddof=1) / len(psnr) ** 0.5],
                "ssim": [np.mean(ssim), np.std(ssim, ddof=1) / len(ssim) ** 0.5],
                "fd_texture": frechet(vectors[way], vectors[REAL]),
                "patches": len(vectors[way]),
                "gradient": [np.mean([gradient(b) for _, b in pairs]), np.mean([gradient(a) for a, _ in pairs])],
                "token_error": float(np.mean(errors[way])) if way in errors else None,
            }
    return result


def sharpen(slides: Path, work: Path, num: int, docs: Path) -> None:
    found, errors = [], defaultdict[str, list[float]](list)
    roots = []
    for number, (words, areas) in enumerate(regions(slides, num)):
        (folder := work / f"region{number}").mkdir(parents=True, exist_ok=True)
        found.append(sharpened(folder, words, areas, errors))
        roots.append(areas[0].pixels)
        if number:
            figures = table(found, errors)
            (work / "sharpen.json").write_text(json.dumps(figures, indent=1))
            for name, one in figures.items():
                print(
                    f"{name:45}", {key: np.round(value, 2) if value is not None else None for key, value in one.items()}
                )
        rows = [[root, *(one[way][2] for way in (BICUBIC, *WAYS, BOUND, REAL))] for root, one in zip(roots, found)]
        sheet(rows[:3], docs / "sharpen.jpg")


def places(slides: Path, work: Path, docs: Path) -> None:
    """Draw one place in all ways: as it is, the hole, inpainted, outpainted, re-imagined, with another's tokens."""
    work.mkdir(parents=True, exist_ok=True)
    (words, areas), (_, others) = list(regions(slides, 2))
    real, hole = areas[-1].pixels, [80, 80, 96, 96]
    meta = others[0].conditions.meta[0]
    other = f"other={{slide:{slides / (meta.slide + '.tif')},x:{meta.x_px0 + 128},y:{meta.y_px0 + 128}}}"
    holed, framed = real.copy(), np.full_like(real, 255)
    holed[80:176, 80:176] = 255
    framed[64:192, 64:192] = real[64:192, 64:192]
    box, stays = f"mask={hole}".replace(" ", ""), "stays=[64,64,128,128]"
    ways = {
        "inpainted": (box,),
        "outpainted": (stays,),
        "reimagined": ("mask=all",),
        "other20": ("mask=all", other, "other_at=[20]"),
        "other": ("mask=all", other),
    }
    made = {name: whole(work / name, *words, *more)[1][-1] for name, more in ways.items()}
    first = [real, holed, made["inpainted"], framed, made["outpainted"]]
    sheet([first, [made["reimagined"], made["other20"], made["other"], others[-1].pixels, real]], docs / "places.jpg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regions", type=int, default=6)
    parser.add_argument("--places", action="store_true")
    parser.add_argument("--work", type=Path, default=PROJECT_ROOT / "cache" / "bench-sharpen")
    parser.add_argument("--docs", type=Path, default=PROJECT_ROOT / "docs", help="where the pictures go")
    chosen = parser.parse_args()
    painted(slides := chosen.work / "slides", SLIDES)
    if chosen.places:
        places(slides, chosen.work / "places", chosen.docs)
    else:
        sharpen(slides, chosen.work, chosen.regions, chosen.docs)


if __name__ == "__main__":
    main()
