"""rehearse.py: every documented command of the paper's size, typed as the documents have it and cut in numbers."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from zoomldm.commands.effect import check_effect
from zoomldm.commands.job import plain
from zoomldm.config import PROJECT_ROOT
from zoomldm.data.manifest import MANIFEST_NAME, Manifest
from zoomldm.errors import ConfigError, UserError, near_match
from zoomldm.rehearsal import extrapolation
from zoomldm.rehearsal.documents import Command, paper_size_commands
from zoomldm.rehearsal.measure import Measured, cores, measured
from zoomldm.rehearsal.plan import IN_SHORT, LATENTS, PREPARE, STAGES, TRAIN, Stage, command_of, unclaimed
from zoomldm.rehearsal.report import DONE, FAILED, LEFT_OUT, Result, head, table, verdict
from zoomldm.rehearsal.room import check_disk, fits_twice
from zoomldm.rehearsal.scratch_weights import FILES, gathered_apart
from zoomldm.runs.run import find_runs

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from zoomldm.composing import Plan

Compose = Callable[[str, Sequence[str]], "Plan"]
"""Name of a primary configuration and words to jobs: ``composing.planned``, which stands above the commands."""
SLIDES = {"num_patients": 3, "side_px": 32768, "island_px": 2048}
SHORT_SLIDES = {"num_patients": 2, "side_px": 8192, "island_px": 1024}


def check(cfg: DictConfig) -> None:
    """Refuse what cannot be rehearsed.

    Raises:
        UserError: no such stage or slides; a scratch disk that is too small, with the computed sizes.
    """
    titles = [stage.title for stage in STAGES]
    for title in plain(cfg.stages) or []:
        if title not in titles:
            raise ConfigError(f"stages={title}: no such stage;{near_match(title, titles)} expected {', '.join(titles)}")
    if cfg.slides and not Path(cfg.slides).expanduser().exists():
        raise ConfigError(f"slides={cfg.slides}: no such folder; null draws some")
    if not cfg.short:
        print(check_disk(Path(cfg.paths.weights), Path(cfg.folder), plain(cfg.stages)))


def rehearse(cfg: DictConfig, compose: Compose) -> None:
    """Rehearse, print the table, and write it into the folder.

    Raises:
        UserError: something is to be mended.
    """
    commands = paper_size_commands(PROJECT_ROOT)
    if forgotten := unclaimed(commands):
        listed = "\n".join(f"  {one.page}: {one}" for one in forgotten)
        raise UserError(f"documented commands that no stage rehearses (src/zoomldm/rehearsal/plan.py):\n{listed}")
    folder = Path(cfg.folder).absolute()
    if not cfg.keep:
        shutil.rmtree(folder, ignore_errors=True)
    rehearsal = Rehearsal(cfg, folder, commands, compose)
    composed = rehearsal.composed()
    print(f"{len(composed)} documented commands compose; rehearsing in {folder}, {cores()} cores", flush=True)
    notes = rehearsal.gather()
    print(head(), flush=True)
    results: list[Result] = []
    for stage, words in composed:
        results.append(rehearsal.result(stage, words, results))
        print(results[-1].line(), flush=True)
        if results[-1].message:
            print("\n".join(f"    {line}" for line in results[-1].message.splitlines()), flush=True)
    is_ready, words = verdict(results, notes)
    text = f"{table(results)}\n\n{words}"
    (folder / "rehearsal.txt").write_text(text + "\n", encoding="utf-8")
    (folder / "rehearsal.json").write_text(json.dumps([asdict(one) for one in results], indent=1), encoding="utf-8")
    print(f"\n{text}\n{folder / 'rehearsal.txt'}")
    if not is_ready:
        raise UserError("the rehearsal found something to mend (above)")


class Rehearsal:
    """One rehearsal: its scratch folder, and the documented commands."""

    def __init__(self, cfg: DictConfig, folder: Path, commands: Sequence[Command], compose: Compose) -> None:
        self.compose = compose
        self.folder, self.commands, self.short = folder, commands, bool(cfg.short)
        self.slides = Path(cfg.slides).expanduser().resolve() if cfg.slides else folder / "slides"
        self.draws_slides, self.own_weights = not cfg.slides, Path(cfg.paths.weights)
        self.data, self.wanted = str(cfg.data), plain(cfg.stages)
        self.precision, self.accelerator, self.devices = str(cfg.precision), str(cfg.accelerator), cfg.devices
        self.weights, self.runs = folder / "weights", folder / "runs"
        places = {"DATA": "data", "RUNS": "runs", "CACHE": "cache", "WEIGHTS": "weights"}
        self.environment = {f"ZOOMLDM_{name}": str(folder / place) for name, place in places.items()}

    def composed(self) -> list[tuple[Stage, list[str]]]:
        """Return the chosen stages with what is typed, every one of which composes and says nothing in vain.

        Raises:
            ConfigError: a documented command, or one with its cuts, does not compose; or a document has it no more.
        """
        os.environ.update(self.environment)
        chosen = []
        for stage in STAGES:
            command = command_of(stage, self.commands)
            if command is None:
                raise ConfigError(f"no document has the command of stage {stage.title!r} any more: mend plan.py")
            words = self._typed(stage, command)
            entry = Path(stage.script).stem
            plan = self.compose(entry, words)
            for job in plan.jobs:
                check_effect(entry, job.cfg, job.words, is_sweep=plan.sweep_folder is not None)
            if (not self.wanted or stage.title in self.wanted) and (not self.short or stage.title in IN_SHORT):
                chosen.append((stage, words))
        return chosen

    def _typed(self, stage: Stage, command: Command) -> list[str]:
        places = {
            "slides": str(self.slides),
            "autoencoder.weights": str(self.weights / FILES[0].name),
            "unet.init": str(self.weights / FILES[1].name),
        }
        more: dict[str, str] = {}
        if stage.script == TRAIN:
            more |= {"fabric.precision": self.precision, "fabric.accelerator": self.accelerator}
            if stage.named:
                more["run_name"] = self._documented_name(stage, command, places)
            if stage.title == "DDP":
                more |= self._processes()
        words = stage.words(command, places, **more)
        return [word.replace("brca_8mag", self.data) for word in words]

    def _processes(self) -> dict[str, str]:
        """Return the words that say how many processes train together: one a GPU, or two on the CPU."""
        gpus = 0 if self.accelerator == "cpu" else len(list(Path("/dev").glob("nvidia[0-9]*")))
        number = self.devices or (gpus if gpus > 1 else 2)
        words = {"fabric.devices": str(number), "optim.batch_size": str(max(2, number))}
        return words if gpus >= number else words | {"fabric.accelerator": "cpu"}

    def _documented_name(self, stage: Stage, command: Command, places: dict[str, str]) -> str:
        """Return the name that the documented command gives its run, without the cuts."""
        from zoomldm.commands.train import run_name_of

        job = self.compose("train", replace(stage, cuts={}).words(command, places)).jobs[0]
        return run_name_of(job.cfg, list(job.words))

    def gather(self) -> list[str]:
        """Draw the slides and write the weights that are missing; return what a reader of the end must know."""
        notes = [f"distances here are of a few patches and are called rehearsal: no FIDs (rehearsed with {self.data})"]
        if self.draws_slides:
            sizes = SHORT_SLIDES if self.short else SLIDES
            argv = ["data_prep/demo/large.py", f"folder={self.slides}", *(f"{k}={v}" for k, v in sizes.items())]
            subprocess.run([sys.executable, *argv], cwd=PROJECT_ROOT, check=True)
        wanted = FILES[2:3] if self.short else FILES
        if drawn := gathered_apart(self.own_weights, self.weights, wanted):
            notes.append(
                f"random values stood in for {', '.join(drawn)}: bring them to {self.own_weights} (docs/weights.md)"
            )
        return notes

    def result(self, stage: Stage, words: list[str], before: Sequence[Result]) -> Result:
        """Run a stage, unless what it needs did not come to be, and say what came of it."""
        lost = [one.title for one in before if one.title in stage.needs and one.state != DONE]
        words, note = self._fitting(stage, words)
        command = shlex.join(["python", stage.script, *words])
        if lost:
            return Result(title=stage.title, command=command, state=LEFT_OUT, message=f"needs {', '.join(lost)}")
        earlier = self._checkpoints()
        log = self.folder / "logs" / f"{len(before) + 1:02d}-{stage.title.replace(' ', '_')}.txt"
        took = measured(
            [sys.executable, stage.script, *words], cwd=PROJECT_ROOT, env=os.environ | self.environment, log=log
        )
        result = Result(
            title=stage.title,
            command=command,
            state=DONE if took.code == 0 else FAILED,
            message=f"{took.message()}\n(all it said: {took.log})" if took.code else note,
            elapsed_s=took.elapsed_s,
            cpu_s=took.cpu_s,
            peak_bytes=took.peak_bytes,
            full=self._full(stage, took) if took.code == 0 else None,
        )
        if stage.drops:
            self._drop_checkpoints(earlier)
        return result

    def _fitting(self, stage: Stage, words: list[str]) -> tuple[list[str], str]:
        """Put the EDM in the place of the U-Net in the stage DDP where two of it do not fit in memory."""
        if stage.title != "DDP" or "fabric.accelerator=cpu" not in words:
            return words, ""
        fits, said = fits_twice()
        if fits:
            return words, ""
        own = [word for word in words if not word.startswith(("model=", "unet.init=", "autoencoder.weights="))]
        return [*own, "model=edm"], f"with model=edm in the place of model=zoomldm: {said}"

    def _full(self, stage: Stage, took: Measured) -> extrapolation.Estimate | None:
        """Estimate the whole job of which a stage was a part; None where there is nothing to estimate."""
        if stage.script == TRAIN and not stage.drops and stage.named:
            model = next(word for word in stage.says if word.startswith("model=")).removeprefix("model=")
            found = find_runs(self.runs, "edm" if model.startswith("edm") else "zoomldm")
            return extrapolation.training_estimate(model, found[-1].folder / "perf.jsonl") if found else None
        if stage.script == TRAIN and stage.cells > 1:
            newest = find_runs(self.runs, "zoomldm")[-1]
            return extrapolation.training_estimate("zoomldm", newest.folder / "perf.jsonl", cells=stage.cells)
        if stage.title == "evaluate":
            return extrapolation.evaluation_estimate(took.elapsed_s, patches=8, steps=1)
        if stage.script == LATENTS or (stage.script == PREPARE and stage.title == "prepare"):
            counts = self._counts()
            estimate = extrapolation.latents_estimate if stage.script == LATENTS else extrapolation.preparation_estimate
            return estimate(took.elapsed_s, counts)
        return None

    def _counts(self) -> dict[str, int]:
        """Return how many patches were made, and how many tiles were encoded for them."""
        import numpy as np

        root = self.folder / "data" / self.data
        manifest = Manifest.load(root) if (root / MANIFEST_NAME).is_file() else None
        if manifest is None:
            return {"patches": 0, "tiles": 0}
        rows = [np.load(path, mmap_mode="r").shape[0] for path in self._row_files(root)]
        return {"patches": sum(shard.num_samples for shard in manifest.shards), "tiles": sum(rows)}

    def _row_files(self, root: Path) -> Iterator[Path]:
        yield from root.glob("slides/*/rows*.npy")

    def _drop_checkpoints(self, kept: Sequence[Path]) -> None:
        """Delete the checkpoints of other runs, which nothing later needs."""
        for folder in self._checkpoints():
            if folder not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def _checkpoints(self) -> list[Path]:
        return list(self.runs.glob("*/checkpoints"))
