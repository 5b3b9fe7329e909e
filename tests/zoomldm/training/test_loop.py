"""The loop's promises: a run that was killed is the undisturbed run, and two processes are one."""

import json
import os
import random
import shutil
import signal
import time

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers.settings import optim_settings
from tests.helpers.toy_data import make_toy_data
from tests.helpers.toy_training import ToyTrainable, forked, forked_ranks, train
from zoomldm.errors import UserError
from zoomldm.launch.preempt import EXIT_PREEMPTED
from zoomldm.runs.records import MetricsLog
from zoomldm.runs.run import Run

STEPS = 100


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("toy")
    make_toy_data(root)
    return root


@pytest.fixture(scope="module")
def straight(data, tmp_path_factory):
    """An undisturbed run."""
    runs = tmp_path_factory.mktemp("straight")
    ended(forked(data, runs, steps=STEPS))
    return runs / "toy"


def ended(*processes, timeout=60) -> list[int]:
    for process in processes:
        process.join(timeout)
    return [process.exitcode for process in processes]


def checkpointed(folder, step) -> bool:
    return any(int(p.name[5:]) >= step for p in folder.glob("checkpoints/step-*"))


def wait_for(condition, process, seconds=40) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and process.is_alive():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def same_bits(a, b, step=STEPS) -> bool:
    models = [load_file(f / f"checkpoints/step-{step:08d}/model.safetensors") for f in (a, b)]
    states = [torch.load(f / f"checkpoints/step-{step:08d}/state.pt", weights_only=True) for f in (a, b)]
    weights = [s["model"] for s in states]
    return (
        (a / "metrics.jsonl").read_bytes() == (b / "metrics.jsonl").read_bytes()
        and all(torch.equal(models[0][name], models[1][name]) for name in models[0])
        and all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    )


def test_the_loss_falls_and_every_record_is_there(straight):
    lines = MetricsLog(straight / "metrics.jsonl").read()
    losses = [line["value"] for line in lines if line["name"] == "loss"]
    assert losses[-1] < 0.7 * losses[0]
    assert {"loss/20x", "loss/5x", "validation/loss", "validation/loss/10x", "lr", "gradient_norm", "spread"} <= {
        line["name"] for line in lines
    }
    perf = [json.loads(line) for line in (straight / "perf.jsonl").read_text().splitlines()]
    assert perf[-1]["step"] == STEPS
    assert all(p["images_per_s"] > 0 and 0 <= p["loader_wait"] <= 1 for p in perf)
    described = Run(straight).described()
    assert (described["status"], described["step"]) == ("finished", STEPS)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_that_is_killed_again_and_again_is_the_undisturbed_run(data, straight, tmp_path, workers):
    folder = tmp_path / "toy"
    for step, number in ((5, signal.SIGKILL), (30, signal.SIGTERM), (55, signal.SIGKILL), (75, signal.SIGUSR1)):
        process = forked(data, tmp_path, steps=STEPS, workers=workers)
        wait_for(lambda step=step: checkpointed(folder, step), process)
        time.sleep(0.011)
        os.kill(process.pid, number)
        assert ended(process) == [-number if number == signal.SIGKILL else EXIT_PREEMPTED]
    assert ended(forked(data, tmp_path, steps=STEPS, workers=workers)) == [0]
    assert same_bits(folder, straight)


def test_two_processes_go_on_to_the_last_bit(data, tmp_path):
    assert ended(*forked_ranks(2, data, tmp_path / "a", steps=40)) == [0, 0]
    folder = tmp_path / "b" / "toy"
    ranks = forked_ranks(2, data, tmp_path / "b", steps=40, pause_s=0.05)
    wait_for(lambda: checkpointed(folder, 10), ranks[0])
    for rank in ranks:
        os.kill(rank.pid, signal.SIGKILL)
    ended(*ranks)
    ranks = forked_ranks(2, data, tmp_path / "b", steps=40, pause_s=0.1, preempt_every=4)
    wait_for(lambda: checkpointed(folder, 20), ranks[0])
    os.kill(ranks[1].pid, signal.SIGTERM)  # one of them only: they agree
    assert ended(*ranks) == [EXIT_PREEMPTED] * 2
    assert ended(*forked_ranks(2, data, tmp_path / "b", steps=40)) == [0, 0]
    assert same_bits(folder, tmp_path / "a" / "toy", 40)


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "workers"), [(1, 0), (1, 2), (2, 1)])
def test_three_hundred_steps_killed_at_random_moments(data, tmp_path, ranks, workers):
    """Run A undisturbed; run B killed eight times, wherever it was, and each time started again with the same call."""

    def started(folder, workers):
        options = {"steps": 300, "workers": workers, "pause_s": 0.01, "checkpoint_every": 20}
        return [forked(data, folder, **options)] if ranks == 1 else forked_ranks(2, data, folder, **options)

    assert ended(*started(tmp_path / "a", 0), timeout=200) == [0] * ranks
    rng, number_of_kills = random.Random(ranks * 10 + workers), 0
    for number in [signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1] * 2:
        processes = started(tmp_path / "b", workers)
        time.sleep(rng.uniform(0.3, 2.0))
        number_of_kills += all(process.is_alive() for process in processes)
        for process in processes if number == signal.SIGKILL else processes[-1:]:
            if process.is_alive():
                os.kill(process.pid, number)
        ended(*processes)
    assert number_of_kills >= 4
    assert ended(*started(tmp_path / "b", workers), timeout=200) == [0] * ranks
    assert same_bits(tmp_path / "a" / "toy", tmp_path / "b" / "toy", 300)


def test_two_processes_give_the_losses_of_one(data, tmp_path):
    """Dropout apart, whose draws are a process's own. Tolerance 1e-4: sums in another order, through 40 steps."""
    ended(forked(data, tmp_path / "one", steps=40, dropout=0.0))
    ended(*forked_ranks(2, data, tmp_path / "two", steps=40, dropout=0.0))
    one, two = (MetricsLog(tmp_path / n / "toy" / "metrics.jsonl").read() for n in ("one", "two"))
    assert [(a["step"], a["name"]) for a in one] == [(b["step"], b["name"]) for b in two]
    for a, b in zip(one, two):
        if a["name"] != "spread":
            assert b["value"] == pytest.approx(a["value"], rel=1e-4), a
    models = [load_file(tmp_path / n / "toy/checkpoints/step-00000040/model.safetensors") for n in ("one", "two")]
    for name, value in models[0].items():
        torch.testing.assert_close(models[1][name], value, rtol=1e-3, atol=1e-4)


def test_another_micro_batch_goes_on_with_the_same_samples_and_says_so(data, tmp_path, capfd):
    ended(forked(data, tmp_path, steps=20))
    ended(forked(data, tmp_path, steps=30, micro=4))
    said = capfd.readouterr().out
    assert "going on from step 20" in said
    assert "1 × 12 samples at once before, 1 × 4 now" in said
    assert "3 accumulated × 4" in said


def test_a_damaged_checkpoint_is_passed_over_with_a_warning(data, straight, tmp_path, capfd):
    shutil.copytree(straight, tmp_path / "toy")
    newest = tmp_path / f"toy/checkpoints/step-{STEPS:08d}/state.pt"
    newest.write_bytes(newest.read_bytes()[:-100])
    assert ended(forked(data, tmp_path, steps=STEPS)) == [0]
    captured = capfd.readouterr()
    assert "state.pt: damaged" in captured.err
    assert f"going on from step {STEPS - 5}" in captured.out
    assert same_bits(tmp_path / "toy", straight)


def test_no_number_stops_with_step_and_magnification(data, tmp_path):
    def raises(**options):
        with pytest.raises(UserError) as caught:
            train(data, tmp_path, steps=40, **options)
        return str(caught.value)

    number = 12 * 16 + 3
    message = raises(model=ToyTrainable(nan_at=number))
    assert message.startswith("step 17: the loss is not a finite number")
    assert "x" in message
    assert (
        "the last good checkpoint is step 15: begin a new run there with a lower rate: "
        "`python src/train.py model=toy from=toy@15 run_name=toy-from-15 optim.lr=0.005`"
    ) in message
    assert Run(tmp_path / "toy").described()["status"] == "failed"


def test_a_run_begins_at_anothers_checkpoint(data, straight, tmp_path, capfd):
    """With the same settings it is that run; with others it is another one, and both say where it began."""
    shutil.copytree(straight, tmp_path / "toy")
    step = STEPS - 5
    for name, lr in (("same", 1e-2), ("slower", 1e-3)):
        assert ended(forked(data, tmp_path, steps=STEPS, name=name, origin=f"toy@{step}", lr=lr)) == [0]
    said = capfd.readouterr().out
    assert "[slower] beginning at step 95 of run toy; the learning rate there is 0.001, 100% of its peak" in said
    runs = {name: tmp_path / name / f"checkpoints/step-{STEPS:08d}" for name in ("toy", "same", "slower")}
    weights = {name: load_file(folder / "model.safetensors") for name, folder in runs.items()}
    assert all(torch.equal(weights["same"][key], value) for key, value in weights["toy"].items())
    assert not all(torch.equal(weights["slower"][key], value) for key, value in weights["toy"].items())
    began = json.loads((tmp_path / f"toy/checkpoints/step-{step:08d}/checkpoint.json").read_text())
    sha256 = began["sha256"]["model.safetensors"]
    assert json.loads((runs["slower"] / "checkpoint.json").read_text())["parents"] == {"from": sha256}
    assert Run(tmp_path / "slower").described()["from"] == {"run": "toy", "step": step, "sha256": sha256}
    assert min(line["step"] for line in MetricsLog(tmp_path / "same/metrics.jsonl").read()) > step


def test_a_run_does_not_begin_at_another_network_or_other_parents(data, straight, tmp_path):
    shutil.copytree(straight, tmp_path / "toy")
    with pytest.raises(UserError, match=r"from=toy@100: that run trained another network \(1 tensors differ, as extra"):
        model = ToyTrainable()
        model.register_buffer("extra", torch.zeros(3))
        train(data, tmp_path, steps=120, name="other", origin="toy", model=model)
    train(data, tmp_path, steps=5, name="a", parents={"autoencoder": "a" * 64})
    with pytest.raises(UserError, match=r"run a@5 was made with other weights.*choose another from="):
        train(data, tmp_path, steps=9, name="b", origin="a", parents={"autoencoder": "b" * 64})


def test_out_of_memory_says_which_micro_batch_fits(data, tmp_path):
    with pytest.raises(UserError, match=r"with 12 samples at once; optim\.max_micro_batch=4 fits"):
        train(data, tmp_path, steps=2, model=ToyTrainable(fail_above=5))
    with pytest.raises(UserError, match="not even one sample"):
        train(data, tmp_path, steps=2, model=ToyTrainable(fail_above=-1))


def test_out_of_memory_among_several_processes_is_a_message_and_no_wait(data, tmp_path, capfd):
    assert ended(*forked_ranks(2, data, tmp_path, steps=2, model=ToyTrainable(fail_above=2))) == [1, 1]
    assert "with 6 samples at once; set optim.max_micro_batch=3" in capfd.readouterr().err


def test_out_of_memory_in_one_process_ends_the_others(data, tmp_path, capfd):
    """The other is in the middle of batch norm's sum over both."""
    assert ended(*forked_ranks(2, data, tmp_path, steps=2, model=ToyTrainable(fail_above=2, fail_rank=1))) == [1, 1]
    assert "with 6 samples at once; set optim.max_micro_batch=3" in capfd.readouterr().err


def test_reports_may_come_at_other_intervals_when_a_run_goes_on(data, tmp_path):
    ended(forked(data, tmp_path, steps=10, log_every=8, checkpoint_every=6))
    for steps, log_every in ((16, 20), (30, 3)):
        assert ended(forked(data, tmp_path, steps=steps, log_every=log_every)) == [0]
    losses = [line["step"] for line in MetricsLog(tmp_path / "toy/metrics.jsonl").read() if line["name"] == "loss"]
    assert losses == [8, 10, 16, 18, 21, 24, 27, 30]


def test_a_run_does_not_go_on_with_other_parents(data, tmp_path):
    train(data, tmp_path, steps=5, parents={"autoencoder": "a" * 64})
    with pytest.raises(UserError, match=r"run toy was made with other weights of its autoencoder \(aaaa.*fresh=true"):
        train(data, tmp_path, steps=10, parents={"autoencoder": "b" * 64})
    assert train(data, tmp_path, steps=10, parents={"autoencoder": "a" * 64}).step == 10


def test_a_batch_that_does_not_fill_the_processes_is_refused(data, tmp_path, capfd):
    assert ended(*forked_ranks(2, data, tmp_path, batch=7)) == [1, 1]
    assert "optim.batch_size=7 does not divide among 2 processes" in capfd.readouterr().err


def test_samples_are_asked_for_under_averaged_weights(data, tmp_path):
    seen = []

    def look(trainable, step):
        seen.append((step, trainable.training, trainable.out.weight.detach().clone()))

    model = ToyTrainable()
    train(data, tmp_path, steps=20, sample_every=10, checkpoint_every=10, model=model, on_sample=look)
    assert [(step, training) for step, training, _ in seen] == [(10, False), (20, False)]
    averaged = load_file(tmp_path / "toy/checkpoints/step-00000020/model.safetensors")["out.weight"]
    assert torch.equal(seen[1][2], averaged)
    assert not torch.equal(model.out.weight, averaged)


def test_a_setting_that_makes_no_sense_is_named():
    with pytest.raises(UserError, match=r"optim\.schedule=linear"):
        optim_settings(lr=1.0, batch_size=1, max_micro_batch=1, schedule="linear")
