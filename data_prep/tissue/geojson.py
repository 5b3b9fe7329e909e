"""Polygons that a person drew round the tissue (GeoJSON, QuPath's export) as a mask."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from zoomldm.data.schema import slide_key
from zoomldm.errors import DataError
from zoomldm.stored import read_json

LONGEST_NAME = 200  # bytes; file systems have 255, of which suffixes and temporary names take some
ToPixels = Callable[[np.ndarray], np.ndarray]
"""(n, 2) x, y of level 0 -> (n, 2) x, y of the mask."""


def drawn_path(folder: str | Path, slide: str) -> Path:
    """Return a slide's file in a folder of GeoJSON files: its name, or its key where the name is none of a file."""
    is_name = Path(slide).name == slide and len(slide.encode()) <= LONGEST_NAME
    return Path(folder) / f"{slide if is_name else slide_key(slide)}.geojson"


def read_polygons(path: Path) -> list[shapely.Polygon]:
    """Return the polygons of a GeoJSON file, those of collections too, each made valid; other geometries are left out.

    Raises:
        DataError: not a GeoJSON.
    """
    try:
        content = read_json(path)
        features = content.get("features", [content]) if isinstance(content, dict) else content
        geometries = [shapely.geometry.shape(feature.get("geometry", feature)) for feature in features]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OSError, shapely.errors.ShapelyError) as error:
        raise DataError(f"{path}: not a GeoJSON of polygons ({error!r}); export it from QuPath as GeoJSON") from error
    return [polygon for geometry in geometries for polygon in _polygons_in(geometry)]


def _polygons_in(geometry: BaseGeometry) -> list[shapely.Polygon]:
    if geometry.is_empty:
        return []
    if geometry.geom_type == "Polygon":
        return [geometry] if geometry.is_valid else _polygons_in(shapely.make_valid(geometry))
    return [polygon for part in getattr(geometry, "geoms", ()) for polygon in _polygons_in(part)]


def polygons_mask(polygons: list[shapely.Polygon], to_px: ToPixels, shape: tuple[int, int]) -> np.ndarray:
    """Return the union of polygons in level-0 pixels on a mask's grid, (h, w) bool: pixels whose centres lie inside."""
    rings = shapely.get_rings(shapely.get_parts(shapely.transform(shapely.union_all(polygons), to_px)))
    points, ring_of = shapely.get_coordinates(rings, return_index=True)
    is_edge = ring_of[1:] == ring_of[:-1]
    crossings = np.zeros((shape[0], shape[1] + 1), np.uint8)  # how often, modulo 256, a row of centres meets an outline
    np.add.at(crossings, _crossed(points[:-1][is_edge], points[1:][is_edge], shape), 1)
    return np.add.accumulate(crossings, axis=1, dtype=np.uint8)[:, :-1] % 2 == 1


def _crossed(start: np.ndarray, end: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of the first pixels whose centres lie right of where edges (n, 2) cross their rows."""
    rows = np.clip(np.ceil(np.stack([start[:, 1], end[:, 1]]) - 0.5), 0, shape[0]).astype(int)
    first, count = rows.min(0), np.abs(rows[1] - rows[0])
    edge = np.repeat(np.arange(len(start)), count)
    row = np.arange(count.sum()) - np.repeat(count.cumsum() - count, count) + first[edge]
    part = (row + 0.5 - start[edge, 1]) / (end - start)[edge, 1]
    x = start[edge, 0] + part * (end - start)[edge, 0]
    return row, np.clip(np.ceil(x - 0.5), 0, shape[1]).astype(int)
