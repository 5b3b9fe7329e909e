"""The page's requests as plain functions: what they give, what they refuse, what they leave on disk."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.helpers import toy_runs
from tests.helpers.toy_page import make_page_data, page_session, request
from zoomldm.commands import app, sample
from zoomldm.commands.export import source_of
from zoomldm.errors import ConfigError, UserError
from zoomldm.export import packed as packing
from zoomldm.export.packed_card import Training
from zoomldm.runs.records import append_lines
from zoomldm.runs.run import Run
from zoomldm.sampling.outputs.png import facts_of


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_page_data(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def session(root):
    with page_session(root) as found:
        yield found


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path))


@pytest.mark.parametrize("source", ["oracle", "generated"])
def test_the_page_gives_the_patches_of_the_command(root, session, tmp_path, source):
    answer = session.sample(request(source, seed=3))
    words = ["source.split=test", "variations=2"] if source == "oracle" else []
    cfg = toy_runs.compose(
        "sample", root, "run=zoom", "magnification=10", "n=2", "seed=3", "sampling.steps=2", "solver=ddim",
        "sampling.guidance_scale=1.5", f"source={source}", f"folder={tmp_path}", "fabric=cpu", *words,
    )  # fmt: skip
    sample.run(cfg)
    for place, path in enumerate(answer.files):
        of_command = tmp_path / "10x" / f"{place:05d}.png"
        assert np.array_equal(pixels(path), pixels(of_command))
        assert np.array_equal(pixels(path), answer.images[place])
        assert facts_of(path) == facts_of(of_command)


def test_without_a_scale_the_run_says_the_guidance(session):
    default, none = (session.sample(request("oracle", guidance_scale=scale)) for scale in (1.75, None))
    assert np.array_equal(default.images, none.images)
    assert none.facts["guidance scale"] == 1.75


def test_samples_are_numbered_and_each_stands_beside_its_own_reference(session):
    first, third = (session.sample(request("oracle", sample=number)) for number in (0, 2))
    assert [one.facts["conditions"][0]["number"] for one in (first, third)] == [0, 2]
    assert not np.array_equal(first.reference, third.reference)
    assert not np.array_equal(first.images[0], third.images[0])


def test_a_row_shows_one_place_at_every_magnification(session):
    row = session.all_magnifications(request("oracle"))
    assert [one.rung.label for one in row.answers] == list(session.ladder.labels)
    fine, coarse = (one.facts["conditions"][0] for one in row.answers)
    middle = [one["x_px0"] + one["region_px0"] / 2 for one in (fine, coarse)]
    assert abs(middle[0] - middle[1]) <= session.ladder.patch_px / 2
    drawn = session.all_magnifications(request("generated"))
    assert len(drawn.answers) == len(session.ladder)


def test_a_picture_is_its_own_reference_and_a_row_says_what_is_too_small_for_it(root, session):
    answer = session.sample(request("image", picture=root / "good.png", mpp=0.5, magnification=20.0))
    found, whole = answer.reference, pixels(root / "good.png")
    assert any(np.array_equal(found, whole[y : y + 32, x : x + 32]) for y in (32, 64, 96) for x in (32, 64, 96))
    row = session.all_magnifications(request("image", picture=root / "small.png", mpp=0.5))
    assert [one.rung.label for one in row.answers] == ["20x"]
    assert "small.png: 40 x 40 px" in row.left_out["10x"]
    assert str(root) not in row.left_out["10x"]


def test_a_click_on_the_overview_is_the_region_under_it(root, session):
    overview = session.overview("a.tif")
    x_px0, y_px0 = overview.to_px0(overview.image.shape[1] // 2, overview.image.shape[0] // 2)
    answer = session.sample(request("slide", slide="a.tif", x_px0=x_px0, y_px0=y_px0, magnification=20.0))
    place = answer.facts["conditions"][0]
    assert abs(place["x_px0"] + place["region_px0"] / 2 - x_px0) <= 16
    assert answer.reference.std() > 0
    other = session.sample(request("slide", slide="a.tif", x_px0=x_px0 - 64, y_px0=y_px0, magnification=20.0))
    assert other.facts["conditions"][0]["x_px0"] == place["x_px0"] - 64


@pytest.mark.parametrize(
    ("source", "values", "said"),
    [
        ("oracle", {"n": 17}, "n=17: expected a whole number from 1 to 16"),
        ("oracle", {"n": None}, "n=None: expected a whole number"),
        ("oracle", {"steps": 201}, "steps=201: expected a whole number from 1 to 200"),
        ("oracle", {"seed": -1}, "seed=-1: expected a whole number from 0"),
        ("oracle", {"guidance_scale": 11.0}, "guidance=11.0: expected a number above 0, at most 10"),
        ("oracle", {"guidance_scale": float("nan")}, "guidance=nan"),
        ("oracle", {"magnification": 7}, "magnification=7: not on this ladder"),
        ("oracle", {"sample": 99}, "sample=99: 10x has 4 test patches"),
        ("oracle", {"solver": "dim"}, "solver=dim: did you mean 'ddim'"),
        ("mine", {}, "source=mine: expected one of"),
        ("image", {}, "no picture was uploaded"),
        ("image", {"picture": "small.png"}, r"^small.png: 40 x 40 px of 0.5 mpp, and a region of 10x has 64 x 64"),
        ("image", {"picture": "text.png"}, "^text.png: does not decode as a picture"),
        ("image", {"picture": "jpeg.png"}, r"^jpeg.png: holds another format than its name says; call it jpeg.jpg"),
        ("image", {"picture": "alpha.png"}, r"^alpha.png: has transparency"),
        ("image", {"picture": "a.tif"}, "^a.tif: does not decode as a picture; give a PNG or JPEG"),
        ("image", {"picture": "good.png", "mpp": 2.0}, "^good.png: a picture of 2 mpp is too coarse"),
        ("image", {"picture": "good.png", "mpp": None}, "^scale=None: expected"),
        ("slide", {}, "no place was chosen"),
        ("slide", {"slide": "b.tif", "x_px0": 0, "y_px0": 0}, "slide=b.tif: did you mean 'a.tif'"),
        ("slide", {"slide": "a.tif", "x_px0": 9000, "y_px0": 0}, "^x=9000 y=0: lies off a.tif"),
        ("slide", {"slide": "a.tif", "x_px0": 1, "y_px0": 1}, "is tissue, the rest glass.*place or magnification$"),
    ],
)  # fmt: skip
def test_what_cannot_be_made_is_a_message_and_nothing_written(root, session, source, values, said):
    if name := values.get("picture"):
        values = {"mpp": 0.5} | values | {"picture": root / name}
    before = sorted(session.folder.rglob("*.png"))
    with pytest.raises(UserError, match=said):
        session.sample(request(source, **values))
    assert set(session.folder.rglob("*.png")) <= set(before)


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ("upload_mb=0.001", "MB, expected 0.001 MB or less"),
        ("megapixels=0.001", "160 x 160 px, expected 0.001 million"),
    ],
)
def test_a_large_upload_is_refused(root, limit, said):
    picture = request("image", picture=root / "good.png", mpp=0.5)
    with page_session(root, f"folder={root}/limited", f"limits.{limit}") as one, pytest.raises(UserError, match=said):
        one.sample(picture)


def test_the_last_answers_are_kept_and_nothing_lies_elsewhere(root, session):
    before = {path for path in root.rglob("*") if session.folder not in path.parents}
    for seed in range(5):
        session.sample(request("oracle", seed=seed))
    assert len([path for path in session.folder.iterdir() if path.is_dir()]) == 3
    assert before == {path for path in root.rglob("*") if session.folder not in path.parents}


def test_a_folder_of_others_is_left_alone(root, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds other things"), page_session(root, f"folder={tmp_path}"):
        pass
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_without_an_edm_nothing_is_generated(session):
    lacking = replace(session.models, edm=None)
    whole, session.models = session.models, lacking
    try:
        with pytest.raises(UserError, match="need a trained embedding diffusion model"):
            session.sample(request("generated"))
    finally:
        session.models = whole


def test_a_packed_model_has_no_samples_and_everything_else(root, session, tmp_path):
    runs = [Run(root / "runs" / name) for name in ("ae", "zoom", "edm")]
    for run in runs:
        run.update(command="src/train.py model=toy")
        append_lines(run.folder / "perf.jsonl", [json.dumps({"elapsed_s": 60})])
    trainings = [Training.of(run) for run in runs]
    packing.pack(source_of(session.models), tmp_path / "model", trainings=trainings, places=[str(root)])
    words = ["model=reference", f"model.folder={tmp_path}/model", f"folder={root}/packed"]
    with page_session(root, *words) as packed:
        assert "oracle" not in packed.offer.sources
        asked = request("slide", slide="a.tif", x_px0=200, y_px0=200)
        near = np.abs(packed.sample(asked).images.astype(int) - session.sample(asked).images)
        assert near.mean() < 2  # its weights are float16
        assert len(packed.sample(request("generated")).images) == 2


def test_without_a_run_the_page_shows_the_model_that_ships(tmp_path, monkeypatch, capsys):
    shown = []
    monkeypatch.setattr("zoomldm.app.serve.serve", lambda session, *, port: shown.append(session))
    app.run(toy_runs.compose("app", tmp_path, "fabric=cpu"))
    assert shown[0].models.run.name == "reference"
    assert "model=reference, which ships" in capsys.readouterr().out
    with pytest.raises(UserError, match="run none"):
        app.run(toy_runs.compose("app", tmp_path, "run=none"))


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("port=0", "port=0: expected"),
        ("split=val", "expected train or test"),
        ("slides=[none.svs]", "slides=none.svs: no such file"),
        ("limits.n=0", r"limits\.n=0: expected a number above 0"),
        ("run=none", "none"),
    ],
)
def test_what_cannot_be_shown_is_refused(root, word, said):
    with pytest.raises(UserError, match=said):
        app.check(toy_runs.compose("app", root, *(["run=zoom"] if "run=" not in word else []), word))
