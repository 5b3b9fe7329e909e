"""A tiny trainable, and a script that trains it: python tests/toy_training.py DATA RUNS [key=value …]."""

import multiprocessing
import os
import socket
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from tests.helpers.settings import fabric_settings, loop_settings, optim_settings
from zoomldm.cond.batchnorm import GlobalBatchNorm2d
from zoomldm.curriculum.uniform import Uniform
from zoomldm.data.batch import Batch
from zoomldm.data.reader import SampleSource
from zoomldm.diffusion.noise import keyed_normal
from zoomldm.launch.fabric import connected
from zoomldm.launch.processes import RANKS_VARIABLE
from zoomldm.launch.supervise import needs_supervisor, supervise
from zoomldm.model.trainable import Trainable
from zoomldm.runs.origin import find_origin
from zoomldm.runs.run import Run
from zoomldm.training.due import OnSample
from zoomldm.training.job import TrainingData
from zoomldm.training.loop import FitResult, fit


class ToyTrainable(Trainable):
    """Denoise latents, told the mean of the grid: batch norm, dropout and every column that the loop moves."""

    kind = "zoomldm"
    columns = ("latent", "grid")

    def __init__(
        self, dim: int = 4, fail_above: int | None = None, nan_at: int | None = None, fail_rank: int | None = None
    ) -> None:
        super().__init__()
        self.project = nn.Linear(dim, 8, bias=False)
        self.into = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = GlobalBatchNorm2d(8)
        self.out = nn.Conv2d(8, 3, 3, padding=1)
        self.dropout = nn.Dropout(0.1)
        self.fail_above, self.fail_rank, self.nan_at, self.pause_s = fail_above, fail_rank, nan_at, 0.0

    def forward(self, batch: Batch, seed: int) -> dict[str, Tensor]:
        alone = self.fail_rank is None or os.environ.get("RANK") == str(self.fail_rank)
        if self.fail_above is not None and len(batch) > self.fail_above and alone:
            raise torch.OutOfMemoryError("made up")
        time.sleep(self.pause_s)
        noise = keyed_normal(seed, batch.sample_number, batch.latent.shape[1:])
        means = torch.cat([group.values.float().mean((1, 2)) for group in batch.grids])
        order = torch.argsort(torch.cat([group.index for group in batch.grids]))
        hidden = self.into(batch.latent.float() + noise) + self.project(means[order])[:, :, None, None]
        predicted = self.out(self.dropout(torch.relu(self.norm(hidden))))
        loss = (predicted - noise).square().flatten(1).mean(1)
        if self.nan_at is not None:
            loss = torch.where(batch.sample_number == self.nan_at, torch.nan, loss)
        return {"loss_per_sample": loss, "spread": predicted.detach().std()}


def train(
    data: Path,
    runs: Path,
    *,
    steps: int = 30,
    batch: int = 12,
    micro: int = 12,
    workers: int = 0,
    devices: int = 1,
    name: str = "toy",
    seed: int = 0,
    checkpoint_every: int = 5,
    dropout: float = 0.1,
    pause_s: float = 0.0,
    model: ToyTrainable | None = None,
    on_sample: OnSample | None = None,
    parents: dict[str, str] | None = None,
    origin: str | None = None,
    lr: float = 1e-2,
    **loop: int,
) -> FitResult:
    """Train the toy with the loop; pause_s lengthens each step, for signals that must find it running."""
    torch.manual_seed(seed)
    trainable = ToyTrainable() if model is None else model
    trainable.dropout.p, trainable.pause_s = dropout, pause_s
    source = SampleSource(data, split="train", columns=trainable.columns)
    validation = SampleSource(data, split="test", columns=trainable.columns)
    hardware = fabric_settings(accelerator="cpu", devices=devices, num_workers=workers)
    began = find_origin(runs, "zoomldm", origin, own=name) if origin else None
    config = {"seed": seed, "train": {"steps": steps}}
    run = Run.open(runs, name, config, kind="zoomldm", origin=began and asdict(began))
    with connected(hardware) as fabric:
        return fit(
            trainable,
            data=TrainingData(source=source, validation=validation, curriculum=Uniform(source.counts), seed=seed),
            optim=optim_settings(lr=lr, batch_size=batch, max_micro_batch=micro, warmup_steps=3, clip_norm=1.0),
            loop=loop_settings(
                steps=steps,
                **{"log_every": 4, "validate_every": 10, "validation_samples": 6, "recalibration_samples": 24} | loop,
                checkpoint_every=checkpoint_every,
            ),
            fabric=fabric,
            hardware=hardware,
            run=run,
            on_sample=on_sample,
            parents=parents,
            origin=began,
            words=["model=toy", "optim.lr=1", "run_name=toy"],
        )


def forked(*arguments: object, env: dict[str, str] | None = None, **options: object) -> multiprocessing.Process:
    """Start `train` in a fork of this process, which has everything imported already."""

    def run() -> None:
        os.environ.update(env or {})
        torch.set_num_threads(1)
        train(*arguments, **options)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return process


def forked_ranks(count: int, *arguments: object, **options: object) -> list[multiprocessing.Process]:
    """Start `train` in `count` processes of one gloo group, as a supervisor would."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    common = {RANKS_VARIABLE: str(count), "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1"}
    common |= {"MASTER_PORT": port, "NODE_RANK": "0"}
    return [
        forked(*arguments, env={**common, "LOCAL_RANK": str(r), "RANK": str(r)}, devices=count, **options)
        for r in range(count)
    ]


def main() -> None:
    data, runs, *words = sys.argv[1:]
    options = {
        key: value if key == "name" else float(value) if "." in value else int(value)
        for key, value in (word.split("=") for word in words)
    }
    hardware = fabric_settings(accelerator="cpu", devices=options.get("devices", 1))
    if needs_supervisor(hardware):
        supervise(hardware, [sys.executable, *sys.argv])
        return
    torch.set_num_threads(1)
    train(Path(data), Path(runs), **options)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
