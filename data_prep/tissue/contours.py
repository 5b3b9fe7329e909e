"""A tissue mask as polygons that QuPath opens and a person may edit (GeoJSON, level-0 pixels).

Their edges are those of the mask's pixels, so that reading them back gives the mask to the pixel.
"""

import json

import numpy as np
import shapely

TISSUE_CLASS = {"name": "Tissue", "color": [0, 140, 50]}


def mask_polygons(mask: np.ndarray) -> list[shapely.Polygon]:
    """Return the connected pieces of a mask (h, w) bool with their holes, in its pixels, the first from 0 to 1."""
    padded = np.pad(mask, 1)
    horizontal = (padded[1:] != padded[:-1])[:, 1:-1]  # (h + 1, w): above pixel (y, x)
    vertical = (padded[:, 1:] != padded[:, :-1])[1:-1].T  # (w + 1, h): left of pixel (y, x), transposed
    is_corner = _touched(horizontal) & _touched(vertical).T
    across = _runs(horizontal, is_corner)
    down = _runs(vertical, is_corner.T)[..., ::-1]
    faces = shapely.get_parts(shapely.polygonize(shapely.linestrings(np.concatenate([across, down]))))
    inside = shapely.get_coordinates(shapely.point_on_surface(faces)).astype(int)
    return faces[mask[inside[:, 1], inside[:, 0]]].tolist()


def _touched(edges: np.ndarray) -> np.ndarray:
    """Return which lattice points are ends of edges along the second axis; (n, m) -> (n, m + 1)."""
    padded = np.pad(edges, ((0, 0), (1, 1)))
    return padded[:, 1:] | padded[:, :-1]


def _runs(edges: np.ndarray, is_corner: np.ndarray) -> np.ndarray:
    """Return straight lines between corners, (n, 2 ends, 2) with the second axis's coordinate first."""
    before = np.pad(edges, ((0, 0), (1, 0)))[:, :-1] & ~is_corner[:, :-1]
    after = np.pad(edges, ((0, 0), (0, 1)))[:, 1:] & ~is_corner[:, 1:]
    starts, ends = np.argwhere(edges & ~before), np.argwhere(edges & ~after) + np.array([0, 1])
    return np.stack([starts, ends], axis=1)[..., ::-1].astype(float)


def geojson_of(mask: np.ndarray, *, pitch_px0: float, origin_px0: tuple[float, float]) -> str:
    """Return a mask (h, w) bool as a collection of annotations.

    Args:
        pitch_px0: level-0 pixels along a mask pixel.
        origin_px0: x and y of the mask's corner.
    """

    def to_px0(points: np.ndarray) -> np.ndarray:
        return np.round(points * pitch_px0 + origin_px0, 2)

    features = [
        {
            "type": "Feature",
            "geometry": shapely.geometry.mapping(shapely.transform(polygon, to_px0)),
            "properties": {"objectType": "annotation", "classification": TISSUE_CLASS},
        }
        for polygon in mask_polygons(mask)
    ]
    return json.dumps({"type": "FeatureCollection", "features": features})
