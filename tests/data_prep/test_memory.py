"""Memory of a worker does not grow with the slide, nor with how far its regions overlap."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import resource, sys
sys.path[:0] = [{root!r}, {root!r} + "/src"]
from pathlib import Path
import imagecodecs, numpy as np, tifffile
from benchmarks.slide_settings import paper_settings
from data_prep.slides.table import SlideSpec
from data_prep.work.job import SlideJob
from data_prep.work.prepare_slide import prepare_slide
from tests.helpers.tiny_slides import tissue_pixels

WIDTH, HEIGHT, MPP, TILE = {width}, {height}, {mpp}, 512
path = Path(sys.argv[1]) / "large.tif"

def tiles(downsample, bank):
    for y in range(-(-(HEIGHT // downsample) // TILE)):
        for x in range(-(-(WIDTH // downsample) // TILE)):
            yield bank[(3 * x + 5 * y) % len(bank)]

if sys.argv[2] == "make":
    bank = [tissue_pixels(TILE, TILE, seed, margin=-0.3) for seed in range(3)]
    bank.append(np.full((TILE, TILE, 3), 243, np.uint8))
    coding = dict(level=80, colorspace="RGB", outcolorspace="YCBCR", subsampling="420")
    bank = [imagecodecs.jpeg8_encode(tile, **coding) for tile in bank]
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for number, d in enumerate((1, 16)):
            tiff.write(tiles(d, bank), shape=(HEIGHT // d, WIDTH // d, 3), dtype=np.uint8, tile=(TILE, TILE),
                       photometric="ycbcr", compression="jpeg", subsampling=(2, 2),
                       subfiletype=int(number > 0), metadata=None,
                       resolution=(1e4 / MPP / d,) * 2, resolutionunit="CENTIMETER")
else:
    most = "{{default:null,20:200,10:200,5:200}}"
    settings = paper_settings("data.min_tissue=0.3", "data.stride={stride}", f"data.max_patches_per_slide={{most}}")
    spec = SlideSpec(path=path, name="large", patient="large")
    state = prepare_slide(SlideJob(spec=spec, settings=settings, root=Path(sys.argv[1]), by_area=False))
    assert state.status == "done", state.reason
    assert state.decodes["decoded"] <= 1.1 * state.decodes["native_tiles"], state.decodes
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, state.counts, state.elapsed_s, state.cpu_s)
"""


def peak_mb(folder: Path, width: int, height: int, *, mpp: float, stride: str) -> int:
    script = folder / "large.py"
    script.write_text(SCRIPT.format(root=str(ROOT), width=width, height=height, mpp=mpp, stride=stride))
    for step in ("make", "prepare"):
        done = subprocess.run(
            [sys.executable, str(script), str(folder), step], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
    print(done.stdout)
    return int(done.stdout.split()[0])


@pytest.mark.slow
def test_a_slide_of_50_000_by_40_000_px_takes_less_than_a_gigabyte(tmp_path):
    stride = "{default:1,0.625:0.5,0.3125:0.25,0.15625:0.25}"
    assert peak_mb(tmp_path, 50_000, 40_000, mpp=0.5, stride=stride) < 1024


@pytest.mark.slow
def test_a_slide_of_100_000_by_100_000_px_with_overlap_takes_less_than_a_gigabyte(tmp_path):
    """As a scanner at 40x makes it; neighbouring regions share up to fifteen sixteenths. Takes 5 GB of disk."""
    stride = "{default:1,2.5:0.25,1.25:0.125,0.625:0.0625,0.3125:0.0625,0.15625:0.0625}"
    assert peak_mb(tmp_path, 100_000, 100_000, mpp=0.25, stride=stride) < 1024
