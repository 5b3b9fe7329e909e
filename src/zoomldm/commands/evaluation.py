"""The work of evaluate.py and sample.py: a run's models and data, found by its own configuration."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoomldm import build
from zoomldm.commands.evaluation_check import find_edm
from zoomldm.data.manifest import Manifest
from zoomldm.errors import UserError
from zoomldm.evaluation.evaluator import Evaluator, Plan, sample_number
from zoomldm.evaluation.record import evaluate_run as record_evaluation
from zoomldm.evaluation.record import stored_evaluations, stored_examples
from zoomldm.evaluation.report.compare import Comparison, compare
from zoomldm.evaluation.report.tables import text_claims, text_table
from zoomldm.evaluation.result import Evaluation
from zoomldm.features.build import build_descriptor
from zoomldm.files import progress, write_atomically
from zoomldm.ladder import Ladder, Rung
from zoomldm.runs.run import Run, find_run
from zoomldm.sampling import pictures
from zoomldm.sampling.conditions import ShardPatches
from zoomldm.sampling.generator import PatchGenerator
from zoomldm.stages.base import Judged
from zoomldm.stages.loaded import load_autoencoder, load_edm, load_zoomldm

DEFAULT_ROWS = ("halves", "held_out", "reconstructions", "oracle", "generated", "shuffled", "untrained")


@dataclass
class Settings:
    """What an evaluation or a sampling was asked for; None: as the run's configuration says."""

    edm: str | None = None
    data_root: str | None = None
    features: Any = None
    rows: Sequence[str] = DEFAULT_ROWS
    num_per_magnification: int | None = None
    magnifications: Sequence[float] | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    seed: int = 0
    batch_size: int = 64
    device: str = "auto"
    fresh: bool = False


class LoadedRun:
    """A ZoomLDM run with everything that sampling from it needs."""

    def __init__(self, runs: str | Path, name: str | None, settings: Settings, *, wants_edm: bool) -> None:
        from omegaconf import OmegaConf

        self.run: Run = find_run(runs, "zoomldm", name)
        self.cfg = OmegaConf.create(self.run.config)
        self.cfg.paths.runs = str(runs)
        self.manifest = Manifest.load(settings.data_root or self.cfg.data.root)
        self.manifest.check_encoder(self.cfg.encoder.name)
        self.sizes = {"num_rungs": len(self.manifest.ladder), "grid_dim": self.manifest.encoder.dim}
        self.model = load_zoomldm(runs, self.run.name, **self.sizes)
        self.autoencoder = load_autoencoder(runs, **build.plain(self.cfg.autoencoder))
        self.edm = self._edm(runs, settings) if wants_edm else None
        self.device = device_of(settings.device)
        edm_cfg = OmegaConf.create(self.edm.config) if self.edm else self.cfg
        sampling = edm_cfg.sampling
        self.generator = PatchGenerator(
            self.model.module,
            self.autoencoder.module,
            edm=self.edm and self.edm.module,
            solver=build.solver_of(self.cfg),
            edm_solver=build.solver_of(edm_cfg),
            steps=settings.steps or self.cfg.sampling.steps,
            guidance_scale=_chosen(settings.guidance_scale, self.cfg.sampling.guidance_scale),
            edm_steps=settings.steps or sampling.steps,
            edm_guidance_scale=_chosen(settings.guidance_scale, sampling.guidance_scale),
            seed=settings.seed,
            device=self.device,
        )

    @property
    def identity(self) -> dict[str, str | None]:
        """Return the hashes of what synthetic patches depend on."""
        return {
            "model": self.model.sha256,
            "autoencoder": self.autoencoder.sha256,
            "edm": self.edm and self.edm.sha256,
            "data": self.manifest.sha256,
        }

    def untrained(self, seed: int) -> Any:
        """Build the same network before training."""
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build.make_zoomldm(self.cfg, **self.sizes, latent_scale=self.model.module.latent_scale).eval()

    def _edm(self, runs: str | Path, settings: Settings) -> Any:
        try:
            return load_edm(runs, find_edm(runs, self.run.name, settings.edm).name)
        except UserError:
            if settings.edm is not None:
                raise
            return None


def evaluate(cfg: Any) -> Evaluation:
    """Evaluate the run that ``conf/evaluate.yaml`` names and print what was found."""
    settings = Settings(
        edm=cfg.edm,
        data_root=build.plain(cfg.data)["root"] if cfg.get("data") else None,
        features=cfg.get("features"),
        rows=list(cfg.rows),
        num_per_magnification=cfg.num_per_magnification,
        magnifications=build.plain(cfg.magnifications),
        steps=cfg.sampling.steps,
        guidance_scale=cfg.sampling.guidance_scale,
        seed=cfg.seed,
        batch_size=cfg.batch_size,
        device=cfg.device,
        fresh=cfg.fresh,
    )
    chosen = "named" if cfg.run else "newest"
    return _evaluate(cfg, cfg.run, settings, chosen=f"the {chosen} ZoomLDM run in {cfg.paths.runs}")


def evaluate_run(cfg: Any, judged: Judged) -> Evaluation:
    """Evaluate what was just trained, by the ``evaluation`` section of ``conf/train.yaml``."""
    name, edm = judged.zoomldm, judged.edm
    settings = Settings(
        edm=edm,
        features=cfg.features,
        rows=[*cfg.evaluation.rows, *(["generated"] if edm and "generated" not in cfg.evaluation.rows else [])],
        num_per_magnification=cfg.evaluation.num_in_sweep,
        magnifications=[cfg.training.magnification] if cfg.training.name == "single" else None,
    )
    return _evaluate(cfg, name, settings, chosen="the run just trained")


def _evaluate(cfg: Any, name: str | None, settings: Settings, *, chosen: str) -> Evaluation:
    loaded = LoadedRun(cfg.paths.runs, name, settings, wants_edm="generated" in settings.rows)
    run, run_cfg, manifest = loaded.run, loaded.cfg, loaded.manifest
    print(f"evaluating run {run.name} ({chosen}), checkpoint of step {loaded.model.step}, data {manifest.root}")
    encoder = build.make_encoder(run_cfg, manifest) if _is_cheap(run_cfg) else None
    magnifications = settings.magnifications
    if magnifications is None and run_cfg.training.name == "single":
        magnifications = [run_cfg.training.magnification]
    descriptors = _descriptors(settings.features or run_cfg.features, encoder, loaded.device)
    evaluator = Evaluator(
        generator=loaded.generator,
        source=ShardPatches(manifest),
        descriptors=descriptors,
        ladder=manifest.ladder,
        plan=Plan(
            rows=settings.rows,
            num_per_magnification=settings.num_per_magnification or run_cfg.evaluation.num_per_magnification,
            magnifications=magnifications,
            seed=settings.seed,
            batch_size=settings.batch_size,
        ),
        identity=loaded.identity,
        untrained=loaded.untrained(settings.seed) if "untrained" in settings.rows else None,
        folder=run.folder / "evaluation" / "patches",
        encoder=encoder,
    )
    evaluation, known = record_evaluation(
        evaluator,
        run.folder,
        run_name=run.name,
        step=loaded.model.step,
        log=lambda metrics: run.log(loaded.model.step, metrics),
        keep=lambda folder: _keep(cfg, run, folder),
        fresh=settings.fresh,
        labels=_labels(run_cfg),
        data=_data_facts(manifest),
        hardware=_hardware(loaded.device),
        date=time.strftime("%Y-%m-%d"),
        notes=_data_notes(manifest),
    )
    if known:
        print("this checkpoint was evaluated with these settings before; fresh=true computes it again")
    print(f"\n{text_table(evaluation)}\n\n{text_claims(evaluation)}\n")
    print(f"report: {run.folder / 'report' / 'index.html'}")
    return evaluation


def sample(cfg: Any) -> list[Path]:
    """Write synthetic patches of a run as PNGs and contact sheets; return the paths of the sheets."""
    settings = Settings(
        edm=cfg.edm,
        data_root=build.plain(cfg.data)["root"] if cfg.get("data") else None,
        steps=cfg.sampling.steps,
        guidance_scale=cfg.sampling.guidance_scale,
        seed=cfg.seed,
        device=cfg.device,
    )
    loaded = LoadedRun(cfg.paths.runs, cfg.run, settings, wants_edm=cfg.conditions == "generated")
    print(f"sampling from run {loaded.run.name}, checkpoint of step {loaded.model.step}")
    return write_samples(
        loaded.generator,
        loaded.manifest,
        loaded.manifest.ladder,
        cfg,
        name=loaded.run.name,
        folder=loaded.run.folder / "samples",
    )


def write_samples(
    generator: PatchGenerator, manifest: Manifest | None, ladder: Ladder, cfg: Any, *, name: str, folder: Path
) -> list[Path]:
    """Write the patches that ``conf/sample.yaml`` asks for; return the paths of the contact sheets.

    Args:
        manifest: where the conditions come from; may be None where they are generated.
        name: of the model, for titles.
        folder: where a folder for each magnification goes, unless ``cfg.folder`` says.
    """
    rungs = list(ladder.rungs) if cfg.magnification is None else [ladder.rung_of(cfg.magnification)]
    sheets = []
    for rung in rungs:
        inner = f"{cfg.conditions}-{rung.label}-seed{cfg.seed}"
        target = Path(cfg.folder) / rung.label if cfg.folder else folder / inner
        patches, references = _sample_rung(generator, manifest, rung, cfg)
        if not len(patches):
            print(f"{rung.label}: no {cfg.split} patches to take conditions from; left out")
            continue
        for i, patch in enumerate(patches):
            write_atomically(target / f"{i:05d}.png", pictures.patch_png(patch))
        title = f"{name}, {rung.label}, {cfg.conditions} conditions, seed {cfg.seed}"
        sheet = pictures.contact_sheet(patches[:64], title=title, references=references)
        sheets.append(target / "contact_sheet.png")
        write_atomically(sheets[-1], pictures.png_bytes(sheet))
        print(f"{rung.label}: {len(patches)} patches in {target}, all on contact_sheet.png")
    return sheets


def _sample_rung(
    generator: PatchGenerator, manifest: Manifest | None, rung: Rung, cfg: Any
) -> tuple[np.ndarray, np.ndarray | None]:
    starts = range(0, cfg.n, cfg.batch_size)
    if cfg.conditions == "generated":
        parts = [
            generator.from_edm(rung.index, [sample_number(rung, i) for i in range(s, min(s + cfg.batch_size, cfg.n))])
            for s in progress(starts, total=len(starts), label=rung.label, unit="batch")
        ]
        return np.concatenate(parts), None
    source = ShardPatches(manifest)
    num = min(cfg.n, source.count(cfg.split, rung.magnification))
    if num < cfg.n and num:
        print(f"{rung.label}: there are {num} {cfg.split} patches to take conditions from, {cfg.n} were asked for")
    columns = ("image", "grid") if generator.uses_grid else ("image",)
    images, references, first = [], [], 0
    for batch in source.batches(
        split=cfg.split,
        magnification=rung.magnification,
        num=num,
        seed=cfg.seed,
        columns=columns,
        batch_size=cfg.batch_size,
    ):
        images.append(generator.from_batch(batch, [sample_number(rung, first + i) for i in range(len(batch))]))
        references.append(batch.image.permute(0, 2, 3, 1).numpy())
        first += len(batch)
    if not images:
        return np.zeros((0, 1, 1, 3), np.uint8), None
    return np.concatenate(images), np.concatenate(references)


def compare_runs(
    runs: str | Path, names: Sequence[str], folder: Path, *, title: str, distance_name: str | None = None
) -> Comparison:
    """Compare the evaluated runs of a sweep and write the page into a folder.

    Runs are named by what differs between them (``film``, ``mag``); those that differ in nothing but the magnification
    they were trained for become one row. Where the names allow it, ``film`` is claimed to lie below ``mag`` and
    ``none``, and ``unified`` below ``single``.

    Raises:
        UserError: none of the runs was evaluated.
    """
    stored = [evaluations for name in names if (evaluations := stored_evaluations(Path(runs) / name, distance_name))]
    judge = _shared_judge(stored)
    found = [next(one for one in evaluations if one.judge.distance_name == judge) for evaluations in stored]
    shown = display_names(found)
    below = [("film", other) for other in ("cnn", "pool", "mag", "none")] + [("unified", "single")]
    comparison = compare(list(zip(shown, found)), below=below)
    examples = {
        shown_name: stored_examples(Path(runs) / one.run_name, one.judge.distance_name)
        for shown_name, one in zip(shown, found)
    }
    comparison.write(folder, title=title, examples=examples if len(examples) == len(found) else None)
    return comparison


def _shared_judge(stored: Sequence[Sequence[Evaluation]]) -> str | None:
    """Return the distance that judged every run, FID before fd_texture before others; None where there are no runs.

    Raises:
        UserError: no distance judged all of them.
    """
    if not stored:
        return None
    shared = set.intersection(*({one.judge.distance_name for one in evaluations} for evaluations in stored))
    if not shared:
        names = ", ".join(sorted({one.judge.distance_name for evaluations in stored for one in evaluations}))
        raise UserError(
            f"comparison: no one distance judged all runs (there are {names}); evaluate them with one features="
        )
    return min(shared, key=lambda name: (name != "FID", name != "fd_texture", name))


def display_names(evaluations: Sequence[Evaluation]) -> list[str]:
    """Name runs by those of their labels that differ, by their run names where none does."""
    keys = [
        key
        for key in dict.fromkeys(key for one in evaluations for key in one.labels)
        if len({one.labels.get(key) for one in evaluations}) > 1
    ]
    if not keys:
        return [one.run_name for one in evaluations]
    return [" ".join(str(one.labels.get(key, "–")) for key in keys) for one in evaluations]


def device_of(name: str) -> str:
    """Resolve ``auto`` to cuda where there is one.

    Raises:
        UserError: cuda is asked for and there is none.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"device={name}: torch sees no GPU here; use device=cpu (`make doctor` says why)")
    return name


def _keep(cfg: Any, run: Run, folder: Path) -> None:
    """Bring the run's new metrics and the report's folder to tracking."""
    from zoomldm.commands.job import option
    from zoomldm.tracking.base import Tracker

    tracker = option(cfg, "tracking").make(Tracker)
    tracker.follow(run)
    tracker.artifact(folder)
    tracker.close()


def _descriptors(features: Any, encoder: Any, device: str) -> list:
    features = build.plain(features)
    options = {"encoder": encoder, "device": device, "weights": features.get("weights")}
    first = build_descriptor(features["name"], batch_size=features.get("batch_size", 50), **options)
    return [first, *(build_descriptor(name, encoder=encoder, device=device) for name in features.get("also", []))]


def _is_cheap(run_cfg: Any) -> bool:
    """Tell whether the conditioning encoder needs no weights, so that fidelity can be measured anywhere."""
    return run_cfg.encoder.name == "stats"


def _labels(run_cfg: Any) -> dict[str, str]:
    sections = {"model": "model", "cond": "cond", "training": "training", "curriculum": "curriculum", "data": "data"}
    return {label: str(run_cfg[key].name) for label, key in sections.items() if key in run_cfg}


def _data_facts(manifest: Manifest) -> dict[str, Any]:
    return {
        "name": manifest.name,
        "counts": manifest.counts,
        "held out": manifest.held_out,
        "patients": " + ".join(f"{len(names)} {split}" for split, names in manifest.patients.items()),
        "manifest": manifest.sha256[:12],
    }


def _data_notes(manifest: Manifest) -> list[str]:
    notes = [f"{label}: dropped in preparation: {reason}" for label, reason in manifest.dropped.items()]
    stride = manifest.config.get("stride", 1)
    overlapping = min(stride.values()) if isinstance(stride, dict) else stride
    if overlapping < 1:
        notes.append(
            f"regions overlap (data.stride down to {overlapping:g} of their side): both halves of the real patches "
            "show much of the same tissue there, and the row of held-out patients is the fairer floor"
        )
    if manifest.held_out == "area":
        notes.append("held out: a separate area of the same slide, since there is a single patient")
    if manifest.image_format == "jpeg":
        notes.append("real patches are JPEG of quality 95, which a distance sees; prepare with data.image_format=png")
    return notes


def _hardware(device: str) -> str:
    import torch

    from zoomldm.runs.provenance import hardware

    if device.startswith("cuda"):
        return torch.cuda.get_device_name(torch.device(device))
    return f"{hardware()['cpus']} CPU cores"


def _chosen(given: Any, otherwise: Any) -> Any:
    return otherwise if given is None else given
