"""A page's session over untrained runs, with a slide to click on and pictures to upload."""

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from PIL import Image

from tests.helpers import toy_runs
from tests.helpers.settings import fabric_settings
from tests.helpers.tiny_slides import tissue_pixels, tissue_settings, write_slide
from zoomldm.app.requests import Request
from zoomldm.commands import app
from zoomldm.data.manifest import Manifest
from zoomldm.launch.fabric import connected

SIDE_PX = 400


def make_page_data(root: Path) -> Path:
    """Make a data set that says how slides are read, untrained runs, ``a.tif`` and pictures cut out of it."""
    toy_runs.make_toy_runs(root)
    manifest = Manifest.load(root / "data" / "demo")
    tissue = tissue_settings(min_object_um2=100.0, max_hole_um2=100.0, smooth_um=2.0)
    regions = {"min_tissue": 0.3, "stride": 1.0, "max_patches_per_slide": None, "encode_background": False}
    manifest.config = regions | {"tissue": tissue.to_dict()}
    manifest.save(root / "data" / "demo")
    pixels = tissue_pixels(SIDE_PX, SIDE_PX)
    write_slide(root / "a.tif", pixels)
    picture = Image.fromarray(pixels[100:260, 100:260])
    picture.save(root / "good.png")
    picture.crop((0, 0, 40, 40)).save(root / "small.png")
    picture.save(root / "jpeg.png", format="JPEG")
    picture.convert("RGBA").save(root / "alpha.png")
    (root / "text.png").write_text("a picture")
    return root


@contextmanager
def page_session(root: Path, *words: str):
    """Give a session as app.py makes it, with its configuration checked as there."""
    named = [] if any(word.startswith("model") for word in words) else ["run=zoom"]
    cfg = toy_runs.compose("app", root, *named, f"slides=[{root}/a.tif]", "limits.kept=3", *words)
    hardware = replace(fabric_settings(accelerator="cpu", devices=1), compile=False)
    with connected(hardware) as fabric:
        yield app.session_of(cfg, hardware, fabric)


def request(source: str, **values) -> Request:
    """Return a request of two patches at 10x in two steps, with other values where given."""
    usual = {"magnification": 10.0, "guidance_scale": 1.5, "steps": 2, "solver": "ddim", "seed": 0, "n": 2}
    return Request(source=source, **usual | values)
