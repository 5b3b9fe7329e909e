"""Beginning at another run's checkpoint: what is named must be there, and the way back names it."""

import json

import pytest

from zoomldm.errors import UserError
from zoomldm.runs.origin import Origin, find_origin, recorded_origin, same_origin, way_back
from zoomldm.runs.run import Run


@pytest.fixture
def runs(tmp_path):
    for name, kind, steps in (("first", "zoomldm", (100, 200)), ("young", "zoomldm", ()), ("ae", "autoencoder", (5,))):
        folder = Run.open(tmp_path, name, {}, kind=kind).folder
        for step in steps:
            path = folder / f"checkpoints/step-{step:08d}/checkpoint.json"
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps({"sha256": {"model.safetensors": f"sha of {step}"}}))
    return tmp_path


def test_a_checkpoint_is_named_by_run_and_step_or_is_the_newest(runs):
    assert find_origin(runs, "zoomldm", "first@100", own="x") == Origin(run="first", step=100, sha256="sha of 100")
    assert str(find_origin(runs, "zoomldm", "first", own="x")) == "first@200"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("frist@100", r"from=frist@100: run frist: not in .* did you mean 'first'\? zoomldm runs there: first, young"),
        ("first@150", "no such checkpoint of run first; it has those of step 100, 200"),
        ("young", "no such checkpoint of run young; it has those of step none"),
        ("first@best", "expected RUN or RUN@STEP, for example from=first@1000"),
        ("ae@5", "run ae is a run of autoencoder; expected one of zoomldm"),
        ("x@5", "is the run itself; name the new run with run_name="),
    ],
)
def test_what_is_not_there_is_said_with_what_is(runs, text, message):
    with pytest.raises(UserError, match=message):
        find_origin(runs, "zoomldm", text, own="x")


def test_a_run_remembers_where_it_began(runs):
    origin = Origin(run="first", step=100, sha256="s")
    run = Run.open(runs, "second", {}, kind="zoomldm", origin=vars(origin))
    assert recorded_origin(run) == origin
    assert recorded_origin(Run(runs / "first")) is None
    assert [same_origin(origin, text) for text in ("first", "first@100", "first@200")] == [True, True, False]


def test_the_way_back_is_a_command():
    words = ["model=zoomldm", "optim.lr=1e-4", "from=a@1", "data.root=/a b"]
    assert way_back("r", 120, lr=1e-4, words=words).endswith(
        "`python src/train.py model=zoomldm 'data.root=/a b' from=r@120 run_name=r-from-120 optim.lr=5e-05`"
    )
    assert way_back("r", None, lr=1e-4, words=[]).endswith("`python src/train.py run_name=r fresh=true optim.lr=5e-05`")
    assert """ "from='r-seed=1@120'" "run_name='r-seed=1-from-120'" """ in way_back("r-seed=1", 120, lr=1.0, words=[])
