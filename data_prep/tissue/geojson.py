"""Polygons that a person drew round the tissue (GeoJSON, QuPath's export) as a mask."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import shapely
from PIL import Image, ImageDraw
from shapely.geometry.base import BaseGeometry

from zoomldm.errors import DataError

ToPixels = Callable[[np.ndarray], np.ndarray]
"""(n, 2) x, y of level 0 -> (n, 2) x, y of the mask."""


def read_polygons(path: Path) -> list[shapely.Polygon]:
    """Return the polygons of a GeoJSON file, those of collections too, each made valid; other geometries are left out.

    Raises:
        DataError: not a GeoJSON.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
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
    """Return the union of polygons in level-0 pixels on a mask's grid, (h, w) bool."""
    union = Image.new("1", (shape[1], shape[0]))
    mask = np.zeros(shape, bool)
    for polygon in polygons:
        canvas = Image.new("1", union.size) if polygon.interiors else union  # a hole is one in its own polygon only
        for fill, ring in [(1, polygon.exterior), *((0, hole) for hole in polygon.interiors)]:
            outline = to_px(shapely.get_coordinates(ring))
            ImageDraw.Draw(canvas).polygon([tuple(point) for point in outline], fill=fill)
        if polygon.interiors:
            mask |= np.asarray(canvas)
    return mask | np.asarray(union)
