"""One slide from file to its folder of work: written aside, renamed when whole, with a state that tells the truth.

slides/<slide>/state.json   done or failed with the reason; scale, counts, what could not be read
slides/<slide>/samples.npz  for each rung: place y, x (tiles), px0 x, y, tissue, spans (offset and size in images.bin of
                            the image and its lossless copy, -1: none); cells: row number of every tile, 0 is glass
slides/<slide>/images.bin   the encoded patches one after the other
slides/<slide>/rows.npy     (1 + n, D), row 0 is glass; float16, of `stats` float32 and not yet standardised
slides/<slide>/qc.jpg       thumbnail, mask, kept tiles
"""

import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.execution.encoding.queue import TileQueue, get_encoder
from data_prep.fold.area import find_area
from data_prep.fold.quadtree import Fold, FoldResult, union_of
from data_prep.fold.regions import RungRegions, find_regions
from data_prep.report.qc import overlay
from data_prep.settings import PrepareSettings
from data_prep.slides.files import quick_hash, stamp_of
from data_prep.slides.readers.base import UnreadableError
from data_prep.slides.slide import Slide
from data_prep.slides.table import SlideSpec
from data_prep.tissue.mask import TissueMask, find_tissue
from zoomldm.data.schema import encode_image, is_reference, make_key, slide_key
from zoomldm.encoder.base import Encoder
from zoomldm.errors import DataError
from zoomldm.files import raise_if_disk_fault, write_json

DONE, FAILED = "done", "failed"
STATE_NAME, IMAGES_NAME = "state.json", "images.bin"
MAX_LISTED = 50


@dataclass(frozen=True, kw_only=True)
class SlideJob:
    """One slide to prepare into ``root``; ``by_area``: the slide serves both splits."""

    spec: SlideSpec
    settings: PrepareSettings
    root: Path
    by_area: bool


def slide_folder(root: Path, slide: str) -> Path:
    return root / "slides" / slide_key(slide)


def read_state(root: Path, slide: str) -> dict[str, Any] | None:
    """Return a slide's state, None where it has none or a damaged one."""
    try:
        return json.loads((slide_folder(root, slide) / STATE_NAME).read_bytes())
    except (OSError, ValueError):
        return None


def is_done(root: Path, spec: SlideSpec) -> bool:
    """Say whether a slide's work is whole and its file is still the one that was read."""
    state = read_state(root, spec.name)
    if not state or state["status"] != DONE:
        return False
    try:
        size, mtime_ns = stamp_of(spec.path)
        if size != state["file"]["bytes"]:
            return False
        return mtime_ns == state["file"]["mtime_ns"] or quick_hash(spec.path) == state["file"]["quick_hash"]
    except (OSError, DataError):
        return True  # the slide has been moved away since: its work is still good


def stored_rows(rows: np.ndarray, encoder: Encoder) -> np.ndarray:
    """Return rows as a slide's folder keeps them: float16, but for ``stats`` float32 until they are standardised."""
    return rows if encoder.name == "stats" else rows.astype(np.float16)


def prepare_slide(job: SlideJob) -> dict[str, Any]:
    """Do one slide and return its state; a slide that cannot be done gets the state ``failed`` with its reason.

    Raises:
        UserError: faults that are not the slide's: a full disk, missing encoder weights.
    """
    encoder = get_encoder(job.settings.encoder)
    folder = slide_folder(job.root, job.spec.name)
    aside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        try:
            state = _prepare(job, encoder, aside)
        except (DataError, UnreadableError) as error:
            state = failed_state(job.spec, reason_of(job.spec, error))
        except OSError as error:
            raise_if_disk_fault(error, aside)
            state = failed_state(job.spec, f"{job.spec.path}: {error}")
        except (MemoryError, ArithmeticError, ValueError, TypeError, LookupError, RuntimeError) as error:
            # a damaged file can bring any library down; the others go on, and the report names this one
            state = failed_state(job.spec, f"{job.spec.path}: {type(error).__name__}: {error}")
        if state["status"] == FAILED:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
        write_json(aside / STATE_NAME, state)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(aside, folder)
    except OSError as error:
        raise_if_disk_fault(error, aside)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return state


def reason_of(spec: SlideSpec, error: Exception) -> str:
    """Return why a slide failed, with its file: a ``DataError`` names it, what a reader raises does not."""
    return str(error) if isinstance(error, DataError) else f"{spec.path}: {error}; check the file or copy it again"


def failed_state(spec: SlideSpec, reason: str) -> dict[str, Any]:
    return {"status": FAILED, "reason": reason, "slide": spec.name, "patient": spec.patient, "path": str(spec.path)}


def _prepare(job: SlideJob, encoder: Encoder, aside: Path) -> dict[str, Any]:
    began, cpu = time.perf_counter(), time.process_time()
    settings, ladder = job.settings, job.settings.ladder
    slide = Slide(job.spec, ladder.base_mpp, settings.readers)
    try:
        tissue = find_tissue(slide, ladder.patch_px, ladder.base_mpp, settings.tissue)
        slide.glass = tissue.glass
        area = find_area(tissue.fraction, ladder, settings.area_test_fraction)
        regions = find_regions(
            tissue.fraction,
            ladder,
            settings.regions,
            slide=job.spec.name,
            seed=settings.seed,
            area=area if job.by_area else None,
        )
        encode = union_of(regions, tissue.fraction.shape)
        if not settings.encode_background:
            encode &= tissue.fraction >= settings.tissue.min_tile
        writer = ImageWriter(aside / IMAGES_NAME, job.spec.name, slide, settings, regions)
        cells, rows, result, encode_s = _fold(slide, settings, tissue, regions, encode, encoder, writer)
        slide.check_unchanged()
        np.save(aside / "rows.npy", stored_rows(rows, encoder))
        np.savez(aside / "samples.npz", cells=cells, **writer.arrays())
        (aside / "qc.jpg").write_bytes(overlay(tissue, cells > 0, regions, ladder))
        counts = {chosen.rung.label: writer.count(k) for k, chosen in enumerate(regions)}
        native = slide.reader.native(slide.scale.level)
        return {
            "status": DONE,
            "reason": "" if any(counts.values()) else "no region has enough tissue",
            "slide": job.spec.name,
            "patient": job.spec.patient,
            "path": str(job.spec.path),
            "file": {"bytes": slide.stamp[0], "mtime_ns": slide.stamp[1], "quick_hash": quick_hash(slide.path)},
            "format": slide.vendor,
            "scale": {
                "mpp_level0": slide.scale.mpp_level0,
                "mpp_true": slide.scale.mpp_true,
                "source": slide.scale.source,
                "method": slide.scale.method,
                "level": slide.scale.level,
                "pitch_px0": slide.pitch_px0,
                "origin_level": [slide.x_level, slide.y_level],
            },
            "size_px": [slide.width_px, slide.height_px],
            "tissue": round(float(tissue.fraction.mean()), 6),
            "pen": round(tissue.pen, 6),
            "glass": tissue.glass.tolist(),
            "area": {"axis": area.axis, "cut": area.cut},
            "by_area": job.by_area,
            "counts": counts,
            "num_tiles_encoded": len(rows) - 1,
            "encoder": encoder.describe(),
            "unreadable_tiles": len(result.unreadable),
            "unreadable_px0": [
                list(slide.to_px0(x * ladder.patch_px, y * ladder.patch_px)) for y, x in result.unreadable
            ][:MAX_LISTED],
            "regions_skipped": result.num_regions_skipped,
            "reader": "tifffile" if native else "openslide",
            "decodes": {"native_tiles": len(native.touched), "decoded": native.num_decoded} if native else None,
            "elapsed_s": round(time.perf_counter() - began, 3),
            "cpu_s": round(time.process_time() - cpu, 3),
            "encode_s": round(encode_s, 3),
        }
    finally:
        slide.close()


def _fold(
    slide: Slide,
    settings: PrepareSettings,
    tissue: TissueMask,
    regions: list[RungRegions],
    encode: np.ndarray,
    encoder: Encoder,
    writer: "ImageWriter",
) -> tuple[np.ndarray, np.ndarray, FoldResult, float]:
    """Read the slide once, writing its patches; return row numbers (tiles_y, tiles_x), rows, faults, seconds."""
    p = settings.ladder.patch_px
    queue = TileQueue(encoder)
    queue.add(np.broadcast_to(tissue.glass, (1, p, p, 3)))
    cells = np.zeros(tissue.fraction.shape, np.int32)
    num_rows = 1

    def on_tiles(positions: np.ndarray, tiles: np.ndarray) -> None:
        nonlocal num_rows
        cells[positions[:, 0], positions[:, 1]] = np.arange(num_rows, num_rows + len(tiles))
        num_rows += len(tiles)
        queue.add(tiles)

    with writer:
        result = Fold(slide.read_boxes, settings.ladder, tissue.fraction.shape, regions, encode).run(
            writer.emit, on_tiles, tissue.glass
        )
    rows = queue.finish()
    if not np.isfinite(rows).all():
        raise DataError(f"{slide.path}: encoder {encoder.name} gave numbers that are not finite; check its weights")
    return cells, rows, result, queue.elapsed_s


class ImageWriter:
    """Appends encoded patches to one file and keeps where each lies."""

    def __init__(
        self, path: Path, name: str, slide: Slide, settings: PrepareSettings, regions: list[RungRegions]
    ) -> None:
        self.path, self.name, self.slide, self.settings, self.regions = path, name, slide, settings, regions
        self.spans = [np.full((len(chosen), 4), -1, np.int64) for chosen in regions]
        self._position = 0

    def __enter__(self) -> "ImageWriter":
        self._stream = open(self.path, "wb", buffering=1 << 20)
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.close()

    def _append(self, content: bytes) -> tuple[int, int]:
        self._stream.write(content)
        self._position += len(content)
        return self._position - len(content), len(content)

    def emit(self, rung: int, row: int, pixels: np.ndarray) -> None:
        self.spans[rung][row, :2] = self._append(encode_image(pixels, self.settings.image_format))
        chosen = self.regions[rung]
        fraction = self.settings.reference.get(chosen.rung.label, 0.0)
        if fraction and is_reference(self.key(rung, row), fraction):
            self.spans[rung][row, 2:] = self._append(encode_image(pixels, "png"))

    def key(self, rung: int, row: int) -> str:
        chosen = self.regions[rung]
        return make_key(self.name, chosen.rung.grid_side, *self.corner(rung, row))

    def corner(self, rung: int, row: int) -> tuple[int, int]:
        """Return a region's corner in level-0 pixels, x and y."""
        chosen, p = self.regions[rung], self.settings.ladder.patch_px
        return self.slide.to_px0(int(chosen.x[row]) * p, int(chosen.y[row]) * p)

    def count(self, rung: int) -> int:
        return int((self.spans[rung][:, 0] >= 0).sum())

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what ``samples.npz`` keeps of each rung: only regions that were emitted."""
        arrays = {}
        for k, (chosen, spans) in enumerate(zip(self.regions, self.spans)):
            kept = np.flatnonzero(spans[:, 0] >= 0)
            arrays[f"{k}.place"] = np.stack([chosen.y[kept], chosen.x[kept]], axis=1).astype(np.int32)
            arrays[f"{k}.px0"] = np.array([self.corner(k, row) for row in kept], np.int64).reshape(-1, 2)
            arrays[f"{k}.tissue"] = chosen.tissue[kept].astype(np.float64)
            arrays[f"{k}.spans"] = spans[kept]
        return arrays
