import json

import numpy as np
import openslide
import pytest

from data_prep.demo import slides as demo_slides
from data_prep.demo.anatomy import Tissue
from data_prep.demo.blueprint import draw_blueprint
from data_prep.demo.fields import FIELD_PX
from data_prep.demo.patient import draw_patient
from data_prep.demo.slides import draw_slide, main, make_demo_slides
from data_prep.demo.stain import Renderer, draw_stain
from zoomldm.errors import UserError

SIDE_PX = 1024


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    return make_demo_slides(folder, seed=3, num_patients=2, side_px=SIDE_PX, workers=2)


@pytest.fixture(scope="module")
def blueprint():
    return draw_blueprint(draw_patient(3, 1), SIDE_PX)


def test_openslide_reads_scale_and_pyramid(slides):
    for path in slides:
        with openslide.OpenSlide(path) as slide:
            assert float(slide.properties["openslide.mpp-x"]) == 0.5
            assert slide.level_dimensions == ((SIDE_PX, SIDE_PX), (SIDE_PX // 4, SIDE_PX // 4))
            base = np.asarray(slide.read_region((0, 0), 0, (SIDE_PX, SIDE_PX)).convert("RGB"), float)
            small = np.asarray(slide.read_region((0, 0), 1, slide.level_dimensions[1]).convert("RGB"), float)
    block_means = base.reshape(SIDE_PX // 4, 4, SIDE_PX // 4, 4, 3).mean((1, 3))
    assert np.abs(block_means - small).mean() < 4


def test_same_seed_same_bytes_whatever_the_workers_and_patients(slides, tmp_path):
    alone = make_demo_slides(tmp_path, seed=3, num_patients=1, side_px=SIDE_PX, workers=1)
    assert alone[0].read_bytes() == slides[0].read_bytes()
    assert slides[0].read_bytes() != slides[1].read_bytes()


def test_another_seed_is_another_slide():
    assert (draw_slide(0, 1, 512) != draw_slide(1, 1, 512)).any()


def test_the_picture_is_beer_lambert_of_two_stains(blueprint):
    patient = draw_patient(3, 1)
    renderer = Renderer(patient, blueprint)
    everything = slice(0, SIDE_PX), slice(0, SIDE_PX)
    light, picture = renderer.glass(*everything), renderer.picture()
    density = np.log(light / np.maximum(picture, 1)).reshape(-1, 3)
    vectors = renderer.stain.vectors
    amounts = density @ np.linalg.pinv(vectors)
    # Half a grey level of rounding is 0.5 / value in optical density; nothing else separates a pixel from the stains.
    error = np.abs(density - amounts @ vectors) * picture.reshape(-1, 3)
    assert error.max() < 1.0
    assert amounts.min() > -0.03
    assert amounts.max(0) == pytest.approx([2.5, 2.0], abs=1.5)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1)
    assert (vectors > 0).all()


def test_the_picture_does_not_depend_on_the_blocks(blueprint):
    patient = draw_patient(3, 1)
    np.testing.assert_array_equal(
        Renderer(patient, blueprint, block_px=512).picture(), Renderer(patient, blueprint, block_px=384).picture()
    )


def test_stain_and_composition_differ_between_patients():
    stains = [draw_stain(0, number) for number in range(1, 15)]
    for i, first in enumerate(stains):
        for second in stains[:i]:
            assert np.abs(first.vectors - second.vectors).max() + np.abs(first.strength - second.strength).max() > 0.03
    patients = [draw_patient(0, number) for number in range(1, 15)]
    assert min(p.tumour for p in patients) == 0
    assert max(p.tumour for p in patients) > 0.4
    assert max(p.fat for p in patients) > 3 * min(p.fat for p in patients)


def test_tissue_cells_and_glass_are_in_proportion():
    blueprint = draw_blueprint(draw_patient(0, 5), 2048)
    share = np.bincount(blueprint.labels.ravel(), minlength=len(Tissue)) / blueprint.labels.size
    assert 0.3 < 1 - share[Tissue.GLASS] < 0.8
    for tissue in (Tissue.STROMA, Tissue.TUMOUR, Tissue.EPITHELIUM, Tissue.FAT):
        assert share[tissue] > 0.002, tissue
    tissue_mm2 = (1 - share[Tissue.GLASS]) * (2048 * 0.5e-3) ** 2
    assert 1500 < len(blueprint.cells) / tissue_mm2 < 12000
    assert (np.diff(blueprint.cells["y"]) >= 0).all()
    under = blueprint.labels[blueprint.cells["y"], blueprint.cells["x"]]
    assert not np.isin(under, (Tissue.GLASS, Tissue.LUMEN, Tissue.FAT)).any()
    assert blueprint.across.shape == (2048 // FIELD_PX,) * 2


def test_a_finished_slide_is_kept_and_a_missing_one_made(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(demo_slides, "draw_slide", lambda *key: drawn.append(key) or np.zeros((512, 512, 3), np.uint8))
    arguments = {"num_patients": 3, "side_px": 512, "workers": 1}
    paths = make_demo_slides(tmp_path, **arguments)
    assert [key[1] for key in drawn] == [1, 2, 3]
    assert json.loads((tmp_path / "demo_slides.json").read_text())["drawing"]["side_px"] == 512
    paths[1].unlink()
    make_demo_slides(tmp_path, **arguments)
    assert [key[1] for key in drawn] == [1, 2, 3, 2]
    make_demo_slides(tmp_path, **arguments | {"seed": 1})
    assert [key[:2] for key in drawn[4:]] == [(1, 1), (1, 2), (1, 3)]
    (tmp_path / "own.tif").write_bytes(b"a person's file")
    make_demo_slides(tmp_path, **arguments | {"seed": 1, "num_patients": 2})
    assert len(drawn) == 7
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "demo-P01.tif",
        "demo-P02.tif",
        "demo_slides.json",
        "own.tif",
    ]


def test_a_slide_cut_short_leaves_nothing_under_its_name(tmp_path, monkeypatch):
    def stop(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo_slides, "draw_slide", lambda *_: np.zeros((512, 512, 3), np.uint8))
    monkeypatch.setattr(demo_slides.tifffile.TiffWriter, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        make_demo_slides(tmp_path, num_patients=1, side_px=512, workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["demo_slides.json"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["side=5"], "did you mean 'side_px'"),
        (["folder=x", "side_px=1000"], "multiple of 256"),
        (["folder=x", "num_patients=0"], "1 to 99"),
        (["folder=x", "seed=abc"], "whole number"),
        ([], "folder"),
    ],
)
def test_wrong_words_are_answered(words, message):
    with pytest.raises(UserError, match=message):
        main(words)
