"""evaluate.py's and sample.py's work on run folders as training leaves them, with random weights."""

import hashlib
import shutil
from dataclasses import replace

import pytest
from PIL import Image

from tests.helpers.toy_evaluation import ALL_ROWS
from tests.helpers.toy_runs import compose, make_toy_runs
from zoomldm.commands import evaluate, sample
from zoomldm.commands.check import check_train
from zoomldm.errors import UserError
from zoomldm.evaluation.report.compare_runs import compare_runs, display_names
from zoomldm.evaluation.stored import stored_evaluations
from zoomldm.runs.belonging import find_edm
from zoomldm.runs.checkpoint import Checkpoints, load_model
from zoomldm.runs.run import Run
from zoomldm.stages.base import Judged


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Make a data set and three untrained runs: autoencoder, ZoomLDM, embedding diffusion model."""
    return make_toy_runs(tmp_path_factory.mktemp("job"))


def digests(sheets) -> list[str]:
    """Return hashes of the pixels alone: a patch's file says how it was sampled, too."""
    paths = sorted(sheets[0].parent.glob("0*.png"))
    return [hashlib.sha256(Image.open(path).tobytes()).hexdigest() for path in paths]


def test_evaluate_the_newest_run_and_then_again(root, capsys):
    cfg = compose("evaluate", root, "sampling.steps=2", "num_per_magnification=30")
    evaluate.check(cfg)
    evaluation = evaluate.run(cfg)
    said = capsys.readouterr().out
    assert "evaluating run zoom (the newest ZoomLDM run" in said
    assert "9.29" in said
    assert evaluation.rows == list(ALL_ROWS)
    assert evaluation.magnifications == ["20x", "10x"]
    assert evaluation.labels["cond"] == "film"
    assert (root / "runs" / "zoom" / "report" / "index.html").is_file()
    assert any(line["name"] == "fd_texture/oracle/20x" for line in Run(root / "runs" / "zoom").metrics.read())
    num_lines = len(Run(root / "runs" / "zoom").metrics.read())
    assert evaluate.run(cfg) == evaluation
    assert "evaluated with these settings before" in capsys.readouterr().out
    assert len(Run(root / "runs" / "zoom").metrics.read()) == num_lines


def test_a_named_checkpoint_is_evaluated_beside_the_newest(root):
    metrics = Run(root / "runs" / "zoom").metrics
    before = metrics.read()
    few = ("sampling.steps=1", "num_per_magnification=8", "rows=[oracle]", "metrics=[paired]")
    evaluate.run(compose("evaluate", root, "run=zoom", "step=10", *few))
    assert [one.step for one in stored_evaluations(root / "runs" / "zoom" / "at-00000010")] == [10]
    assert metrics.read() == before
    with pytest.raises(UserError, match="no checkpoint of step 11; it has 10"):
        evaluate.run(compose("evaluate", root, "run=zoom", "step=11", *few))


def test_a_named_checkpoint_has_no_generated_patches_of_another_steps_edm(root, tmp_path, capsys):
    for name in ("data", "runs"):
        shutil.copytree(root / name, tmp_path / name)
    zoom, edm = (Checkpoints(tmp_path / "runs" / name / "checkpoints") for name in ("zoom", "edm"))
    _, weights = load_model(tmp_path / "runs" / "zoom")
    zoom.save(replace(zoom.info(10), step=20), {}, {name: tensor + 1 for name, tensor in weights.items()})
    _, tokens = load_model(tmp_path / "runs" / "edm")
    edm.save(replace(edm.info(10), step=20, parents={"zoomldm": zoom.info(20).model_sha256}), {}, tokens)
    few = ("sampling.steps=1", "num_per_magnification=8", "rows=[oracle,generated]", "metrics=[paired]", "run=zoom")
    evaluation = evaluate.run(compose("evaluate", tmp_path, "step=10", "magnifications=[20]", *few))
    assert "learnt the tokens of another step of run zoom than of step 10" in capsys.readouterr().out
    assert "generated" not in evaluation.rows
    with pytest.raises(UserError, match=r"another step of run zoom than of step 10, or .*leave out edm="):
        evaluate.run(compose("evaluate", tmp_path, "step=10", "edm=edm", *few))
    evaluation = evaluate.run(compose("evaluate", tmp_path, "step=20", "magnifications=[20]", *few))
    assert "generated" in evaluation.rows


def test_edms_that_are_named_stand_beside_each_other(root, tmp_path):
    for name in ("data", "runs"):
        shutil.copytree(root / name, tmp_path / name)
    runs, own = tmp_path / "runs", "edm_tiny-demo-film"
    shutil.copytree(runs / "edm", runs / own)
    _, tokens = load_model(runs / "edm")
    edm = Checkpoints(runs / "edm" / "checkpoints")
    edm.save(replace(edm.info(10), step=20), {}, {name: tensor + 0.1 for name, tensor in tokens.items()})
    few = ("sampling.steps=1", "num_per_magnification=8", "rows=[oracle,generated]", "metrics=[paired]", "run=zoom")
    found = {
        name: evaluate.run(compose("evaluate", tmp_path, f"edm={name}", "magnifications=[20]", *few))
        for name in (own, "edm")
    }
    assert stored_evaluations(runs / "zoom") == [found[own]]
    assert stored_evaluations(runs / "zoom" / "with-edm") == [found["edm"]]
    distances = [one.cell("generated", "20x").distance.value for one in found.values()]
    assert distances[0] != distances[1]
    assert (runs / "zoom" / "with-edm" / "report" / "index.html").is_file()
    assert not (runs / "zoom" / "with-edm" / "evaluation" / "patches").exists()  # oracle's were there
    told = [one["value"] for one in Run(runs / "zoom").metrics.read() if one["name"] == "fd_texture/generated/20x"]
    assert told.count(distances[0]) == 1
    assert distances[1] not in told


@pytest.mark.parametrize("source", ["oracle", "generated"])
def test_a_seed_gives_the_same_images(root, tmp_path, source):
    def draw(folder, *words):
        words = ["run=zoom", "magnification=10", "n=3", "sampling.steps=2", f"source={source}", *words]
        cfg = compose("sample", root, f"folder={tmp_path / folder}", *words)
        sample.check(cfg)
        return digests(sample.run(cfg))

    first = draw("a")
    assert len(first) == 3
    assert draw("b") == first
    assert draw("c", "seed=1") != first


def test_more_samples_than_conditions_are_cut_with_a_line(root, tmp_path, capsys):
    sample.run(
        compose(
            "sample", root, "magnification=10", "n=5", "source.split=test", "sampling.steps=1", f"folder={tmp_path}"
        )
    )
    assert "there are 4 test patches" in capsys.readouterr().out
    assert len(list((tmp_path / "10x").glob("0*.png"))) == 4


def test_a_magnification_that_is_not_on_the_ladder(root):
    with pytest.raises(UserError, match="not on this ladder"):
        sample.check(compose("sample", root, "magnification=7"))
    with pytest.raises(UserError, match="not on this ladder"):
        evaluate.check(compose("evaluate", root, "magnifications=[20,7]"))


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("evaluate", ["run=zom"], "did you mean 'zoom'"),
        ("evaluate", ["run=ae"], "is a run of autoencoder"),
        ("evaluate", ["fabric.precision=16-mixed"], "overflows"),
        ("evaluate", ["num_per_magnification=2"], "8 or more"),
        ("evaluate", ["seed=-1"], "from 0 to"),
        ("sample", ["n=0"], "1 or more"),
        ("sample", ["seed=-1"], "from 0 to"),
        ("sample", ["sampling.guidance_scale=-1"], "above 0"),
        ("sample", ["sampling.guidance_scale={default:1,5:2}"], "guidance_scale: magnification=5.* not on this ladder"),
        ("evaluate", ["sampling.guidance_scale={20:1}"], "guidance_scale: nothing for 10x"),
        ("evaluate", ["sampling.guidance_interval=[0.8,0.2]"], "the smaller first"),
        ("train", ["data.ladder.num_rungs=2", "sampling.guidance_scale={20:1}"], "guidance_scale: nothing for 10x"),
        ("sample", ["source=generated", "edm=ae"], "expected one of edm"),
    ],
)
def test_senseless_requests_are_refused_before_work(root, name, words, said):
    check = {"evaluate": evaluate.check, "sample": sample.check, "train": check_train}[name]
    with pytest.raises(UserError, match=said):
        check(compose(name, root, *words))


def test_guidance_by_magnification_is_evaluated_as_another_way(root):
    few = ("run=zoom", "sampling.steps=1", "num_per_magnification=8", "rows=[oracle]", "metrics=[paired]")
    usual, by = (
        evaluate.run(compose("evaluate", root, *few, *words))
        for words in ([], ["sampling.guidance_scale={default:1.75,10:6}", "sampling.guidance_interval=[0,1]"])
    )
    assert by.settings["guidance scale"] == [1.75, 6.0]
    assert by.settings["guidance interval"] == [0.0, 1.0]
    assert "guidance interval" not in usual.settings
    assert usual.row_ids["oracle"] != by.row_ids["oracle"]
    distance = {label: [one.cell("oracle", label).distance.value for one in (usual, by)] for label in ("20x", "10x")}
    assert distance["20x"][0] == distance["20x"][1]
    assert distance["10x"][0] != distance["10x"][1]
    assert (
        "guidance 1.75 6 by magnification from 0 to 1 of the noise"
        in (root / "runs" / "zoom" / "report" / "index.html").read_text()
    )


def test_an_evaluation_by_nothing_is_refused(root):
    with pytest.raises(UserError, match=r"metrics=\[\]: choose one"):
        evaluate.run(compose("evaluate", root, "metrics=[]"))


def test_an_edm_of_another_run_is_refused(root):
    with pytest.raises(UserError, match="learnt the tokens of run zoom, not"):
        find_edm(root / "runs", "other", "edm")
    with pytest.raises(UserError, match=r"zoomldm\.run=other"):
        find_edm(root / "runs", "other", None)


def test_inception_without_weights_offers_the_others(root, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"features=texture or features=stats"):
        evaluate.run(compose("evaluate", root, "features=inception", "num_per_magnification=8"))


def test_a_run_is_evaluated_after_training_and_compared(root):
    words = ["run_name=zoom", "evaluation.num_in_sweep=12", "data.ladder.num_rungs=2"]
    for features in ("texture", "stats"):
        cfg = compose("train", root, f"features={features}", *words)
        evaluate.run_after_training(cfg, Judged(zoomldm="zoom"))
    assert stored_evaluations(root / "runs" / "zoom", "fd_texture")[0].rows == ["halves", "oracle"]
    found = compare_runs(root / "runs", ["zoom", "absent"], root / "sweep", title="One run")
    assert list(found.runs) == ["zoom"]
    assert found.distance_name == "fd_texture"
    assert (root / "sweep" / "comparison.html").is_file()


def test_runs_are_named_by_what_differs():
    from types import SimpleNamespace as Labelled

    def run(number, cond, labels):
        return Labelled(run_name=str(number), labels={"cond": cond, "data": "demo"}, magnifications=labels)

    runs = [run(0, "film", ["20x", "5x"]), run(1, "mag", ["20x"]), run(2, "mag", ["5x"]), run(3, "mag", ["5x"])]
    assert display_names(runs[:2]) == ["film", "mag"]
    assert display_names(runs[:1]) == ["0"]
    assert display_names(runs[:3]) == ["film", "mag", "mag"], "of different magnifications, they are one row"
    assert display_names(runs) == ["film", "1", "2", "3"], "no figure goes in another's place"


def test_another_solver_and_precision_make_other_images_and_are_named(root, tmp_path, capsys):
    def draw(folder, *words):
        words = ["run=zoom", "magnification=10", "n=2", "sampling.steps=3", *words]
        cfg = compose("sample", root, f"folder={tmp_path / folder}", *words)
        sample.check(cfg)
        return digests(sample.run(cfg))

    as_configured = draw("a")
    assert draw("b", "solver=ddim") == as_configured
    assert draw("c", "solver=dpmpp") != as_configured
    assert draw("d", "fabric.precision=bf16-mixed") != as_configured
    words = ["sampling.steps=2", "num_per_magnification=8", "rows=[halves,oracle]", "fresh=true", "solver=dpmpp"]
    found = evaluate.run(compose("evaluate", root, *words))
    assert found.settings["solver"] == "DPMSolverPP()"
    assert found.settings["precision"] == "32"


MINE = """
from zoomldm.evaluation.errors import Measure
from zoomldm.evaluation.metrics.base import Metric
from zoomldm.evaluation.rows.base import Row
from zoomldm.sampling.generator import images_of


class Inverted(Row):
    title = "real, inverted"
    is_paired = True

    def images(self, data):
        for batch in data.real_batches(columns=("image",)):
            yield 255 - images_of(batch)


class Count(Metric):
    title = "how many there are"

    def __init__(self, *, name, add):
        super().__init__(name=name)
        self.add = add

    def measure(self, compared):
        return Measure(len(compared.vectors) + self.add)
"""


def test_a_row_and_a_metric_of_ones_own_are_one_file_and_one_yaml_each(root, tmp_path, monkeypatch):
    (tmp_path / "my_rows.py").write_text(MINE)
    for group, name, text in [
        ("rows", "inverted", "inverted: {_target_: my_rows.Inverted}"),
        ("metrics", "number", "number: {_target_: my_rows.Count, add: 1}"),
    ]:
        (tmp_path / "conf" / group).mkdir(parents=True)
        (tmp_path / "conf" / group / f"{name}.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    words = ["num_per_magnification=8", "rows=[halves,inverted]", "metrics=[paired,number]", "magnifications=[20]"]
    own = ["--config-dir", str(tmp_path / "conf")]
    with pytest.raises(UserError, match=r"allow_code=\[my_rows\]"):
        evaluate.run(compose("evaluate", root, *words, *own))
    found = evaluate.run(compose("evaluate", root, *words, "allow_code=[my_rows]", *own))
    assert found.metrics()["fd_texture.number/inverted/20x"] == 9
    assert found.cell("inverted", "20x").paired.value > 0
    report = (root / "runs" / "zoom" / "report" / "report.md").read_text()
    assert "real, inverted" in report
    assert "how many there are" in report
    assert stored_evaluations(root / "runs" / "zoom", "fd_texture") == [found]
