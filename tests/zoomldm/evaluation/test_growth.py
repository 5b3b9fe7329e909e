"""The curve of growth: distances of earlier checkpoints against the images that they had seen."""

import json

import pytest

from zoomldm.errors import UserError
from zoomldm.evaluation.errors import Measure
from zoomldm.evaluation.growth import draw_growth, folder_at, growth_of
from zoomldm.evaluation.result import Cell, DescriptorInfo, Evaluation, RowInfo


def keep(run, step: int, distances: dict[str, float]) -> None:
    checkpoint = run / "checkpoints" / f"step-{step:08d}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "checkpoint.json").write_text(json.dumps({"samples_seen": dict.fromkeys(distances, step * 32)}))
    cells = {
        label: Cell(num=8, num_reference=8, judged_by="", distance=Measure(value, 0.1, ()))
        for label, value in distances.items()
    }
    descriptor = DescriptorInfo(
        name="texture", distance_name="fd_texture", dim=20, fingerprint="", conditions_model=False
    )
    evaluation = Evaluation(
        run_name=run.name,
        step=step,
        magnifications=list(distances),
        descriptors=[descriptor],
        row_infos=[RowInfo(name="oracle", title="oracle")],
        reference_ids={},
        cells={"fd_texture": {"oracle": cells}},
    )
    folder = folder_at(run, step) / "evaluation"
    folder.mkdir(parents=True)
    evaluation.save(folder / "fd_texture.json")


def test_a_curve_a_magnification_by_images_seen(tmp_path):
    keep(tmp_path / "run", 2000, {"20x": 5.0, "10x": 4.0})
    keep(tmp_path / "run", 1000, {"20x": 9.0, "10x": 8.0})
    assert growth_of(tmp_path / "run") == {
        "20x": [(64000, 9.0, 0.1), (128000, 5.0, 0.1)],
        "10x": [(64000, 8.0, 0.1), (128000, 4.0, 0.1)],
    }
    picture = draw_growth(tmp_path / "run")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert json.loads(picture.with_suffix(".json").read_text())["20x"][1] == [128000, 5.0, 0.1]


def test_a_run_whose_checkpoints_were_not_evaluated_says_how(tmp_path):
    with pytest.raises(UserError, match=r"evaluate.py run=run step="):
        draw_growth(tmp_path / "run")
