"""A place that is embedded by itself has the grid and the patch that preparation wrote for it, bit for bit."""

import numpy as np
import pytest

from data_prep.places.place import SlidePlaces
from data_prep.slides.table import SlideSpec
from tests.helpers.prepare import MeanColour, prepare_folder, samples_of, tiny_preparation
from tests.helpers.tiny_slides import tiny_settings
from zoomldm.config import Option
from zoomldm.data.manifest import Manifest
from zoomldm.data.schema import decode_grid, decode_image
from zoomldm.encoder.base import Encoder
from zoomldm.encoder.stats import StatsEncoder

NETWORK = Option("encoder", {"_target_": "tests.helpers.prepare.MeanColour", "name": "mean"}, allow=("tests",))


def places_of(manifest: Manifest, spec: SlideSpec, made: Encoder, **values) -> SlidePlaces:
    return SlidePlaces(spec, tiny_settings(**values), made, manifest.encoder)


@pytest.mark.parametrize(
    ("mpp", "values"),
    [(0.5, {"encoder": NETWORK}), (0.25, {}), (0.33, {}), (0.5, {"encode_background": True})],
    ids=["network", "box", "resampled", "background"],
)
def test_the_grid_of_a_place_is_that_of_its_sample(tiny_slide, tmp_path, mpp, values):
    """At a scale that is the base's, one that boxes bring there, and one that is resampled."""
    path = tiny_slide("a", width=round(260 / mpp), height=round(240 / mpp), mpp=mpp)
    manifest = prepare_folder(path.parent, tmp_path / "data", test_fraction=0.0, **values)
    (spec,) = tiny_preparation(path.parent, tmp_path).specs
    encoder = MeanColour() if values.get("encoder") else StatsEncoder()
    places = places_of(manifest, spec, encoder, **values)
    compared = {}
    for _, meta, fields in samples_of(manifest):
        rung = manifest.ladder.rung_of(meta.magnification)
        if compared.setdefault(rung.index, 0) == 3:
            continue
        compared[rung.index] += 1
        place = places.around(rung, meta.x_px0 + meta.region_px0 / 2, meta.y_px0 + meta.region_px0 / 2)
        (embedded,) = places.embed([place])
        np.testing.assert_array_equal(embedded.grid, decode_grid(fields["grid"]))
        np.testing.assert_array_equal(embedded.patch, decode_image(fields["image"]["png"]))
        assert (embedded.meta.key, embedded.meta.x_px0, embedded.meta.y_px0) == (meta.key, meta.x_px0, meta.y_px0)
        assert (embedded.meta.tissue, embedded.meta.mpp_true) == pytest.approx((meta.tissue, meta.mpp_true), rel=1e-5)
    assert len(compared) > 2


def test_a_place_near_the_edge_is_moved_onto_the_slide(tiny_slide, tmp_path):
    path = tiny_slide("a", width=500, height=400)
    manifest = prepare_folder(path.parent, tmp_path / "data", test_fraction=0.0)
    (spec,) = tiny_preparation(path.parent, tmp_path).specs
    places, rung = places_of(manifest, spec, StatsEncoder()), manifest.ladder[1]
    first, last = places.around(rung, 0, 0), places.around(rung, 499, 399)
    assert (first.y, first.x) == (0, 0)
    assert last.x * 16 < 500 <= last.x * 16 + rung.region_px + 16
    assert places.around(rung, 499, 399, inside=True).x * 16 + rung.region_px <= 500
    assert not places.holds(500, 0)
    assert not places.holds(-1, 0)
    assert places.holds(499, 399)
