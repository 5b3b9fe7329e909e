"""The evaluation of a ZoomLDM run: its models and data against real patches, kept in its folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from zoomldm.config import Option
from zoomldm.data.manifest import Manifest
from zoomldm.encoder.base import Encoder
from zoomldm.errors import UserError
from zoomldm.evaluation.bench import Bench, Plan
from zoomldm.evaluation.evaluator import Evaluator
from zoomldm.evaluation.growth import folder_at
from zoomldm.evaluation.metrics.base import Metric
from zoomldm.evaluation.protocols.base import Protocol
from zoomldm.evaluation.protocols.strict import Strict
from zoomldm.evaluation.record import computed_or_read
from zoomldm.evaluation.report.tables import text_claims, text_table
from zoomldm.evaluation.result import Evaluation
from zoomldm.evaluation.rows.base import Row
from zoomldm.evaluation.rows.shipped import Shipped
from zoomldm.evaluation.store import alone
from zoomldm.evaluation.stored import FOLDER
from zoomldm.features.base import descriptors_of
from zoomldm.runs.run import Run
from zoomldm.sampling.compute import device_name
from zoomldm.sampling.conditions import ShardPatches
from zoomldm.stages.base import stage_of
from zoomldm.stages.packed import REFERENCE, PackedModel
from zoomldm.stages.shipped import shipped_model
from zoomldm.stages.trained import HowToSample, TrainedModels, load_trained
from zoomldm.stages.zoomed import WITH_EDM, judged_zoom

LABELLED = ("model", "cond", "training", "curriculum", "data")
"""Groups whose options name a run in a comparison."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to evaluate; None: as the run's configuration says.

    Attributes:
        packed: a packed model, instead of a run.
        run, step, edm, data_root, allow: as in ``stages.trained.load_trained``.
        rows, metrics: by their options.
        features: section of the descriptors: the first one judges.
        encoder: section of the encoder that conditions the model, for conditioning fidelity.
        evaluation: section of the protocol and its numbers of patches.
        fresh: compute again, also what is there.
    """

    packed: PackedModel | None = None
    run: str | None
    step: int | None = None
    edm: str | None = None
    data_root: str | None = None
    rows: Sequence[Option]
    metrics: Sequence[Option]
    features: Mapping[str, Any] | None = None
    encoder: Mapping[str, Any] | None = None
    evaluation: Mapping[str, Any] | None = None
    num_per_magnification: int | None = None
    magnifications: Sequence[float] | None = None
    how: HowToSample
    batch_size: int = 64
    fresh: bool = False
    allow: tuple[str, ...] = ()


def evaluated(
    runs: str | Path, request: Request, *, chosen: str, fabric: Fabric, keep: Callable[[Run, Path], None] | None = None
) -> Evaluation | None:
    """Evaluate a run into its folder and print what was found; None in all processes but the first.

    Args:
        chosen: how the run was chosen, for the first line.
        fabric: the processes that share the making of synthetic patches.
        keep: called with the run and the folder of a new report.
    """
    rows = [option.make(Row) for option in request.rows]
    trained = _trained(runs, request, wants_edm=any(row.needs_edm for row in rows))
    run, manifest = trained.run, trained.manifest
    if fabric.global_rank == 0:
        print(f"evaluating run {run.name} ({chosen}), checkpoint of step {trained.model.step}, data {manifest.root}")
    notes = _data_notes(manifest)
    shared = run.folder if request.step is None else folder_at(run.folder, request.step)
    folder = shared / _another_edm(trained, request)
    is_tracked = folder == run.folder and not request.packed
    with alone(shared / FOLDER) if fabric.global_rank == 0 else nullcontext():
        evaluation, known = computed_or_read(
            _evaluator(trained, request, rows, notes, shared),
            folder,
            run_name=run.name,
            step=trained.model.step,
            log=(lambda metrics: run.log(trained.model.step, metrics)) if is_tracked else None,
            keep=(lambda report: keep(run, report)) if keep and is_tracked else None,
            fresh=request.fresh,
            fabric=fabric,
            labels=_labels(trained.config),
            data=_data_facts(manifest) | _autoencoder_facts(trained),
            hardware=_hardware(fabric),
            date=time.strftime("%Y-%m-%d"),
            notes=notes,
        )
    if evaluation is not None:
        _say(evaluation, known, folder)
        judged_zoom(trained, folder, request.how, batch_size=request.batch_size, fresh=request.fresh)
    return evaluation


def _labels(config: Mapping[str, Any]) -> dict[str, str]:
    """Return by what a comparison tells the run from others."""
    labels = {group: str(config[group]["name"]) for group in LABELLED if group in config}
    match = config["training"].get("match")
    return labels | ({"match": match} if match else {})


def _trained(runs: str | Path, request: Request, *, wants_edm: bool) -> TrainedModels:
    if request.packed:
        return request.packed.load(runs, data_root=request.data_root, wants_edm=wants_edm)
    return load_trained(
        runs,
        request.run,
        data_root=request.data_root,
        step=request.step,
        edm=request.edm,
        wants_edm=wants_edm,
        allow=request.allow,
    )


def _say(evaluation: Evaluation, known: bool, folder: Path) -> None:
    if known:
        print("this checkpoint was evaluated with these settings before; fresh=true computes it again")
    print(f"\n{text_table(evaluation)}\n\n{text_claims(evaluation)}\n")
    print(f"report: {folder / 'report' / 'index.html'}")


def _another_edm(trained: TrainedModels, request: Request) -> str:
    """Return where, in the run's folder, an evaluation with a named EDM is kept; "" for the EDM of the plain name.

    So that EDMs of one ZoomLDM stand beside each other; patches that they share are made once.
    """
    if not request.edm or trained.edm is None:
        return ""
    plain = "-".join(stage_of(trained.edm.config, trained.allow).stem)
    return "" if request.edm == plain else f"{WITH_EDM}{request.edm}"


def _evaluator(
    trained: TrainedModels, request: Request, rows: Sequence[Row], notes: list[str], folder: Path
) -> Evaluator:
    config, manifest, device = trained.config, trained.manifest, str(request.how.compute.device)
    metrics = [option.make(Metric) for option in request.metrics]
    encoder = _encoder(request.encoder or config["encoder"], manifest, device, notes, request.allow)
    magnifications = request.magnifications
    if magnifications is None and config["training"]["name"] == "single":
        magnifications = [config["training"]["magnification"]]
    numbers = request.evaluation or config["evaluation"]
    bench = Bench(
        generator=trained.generator(request.how),
        source=ShardPatches(manifest),
        descriptors=descriptors_of(
            request.features or config["features"], encoder=encoder, device=device, allow=request.allow
        ),
        plan=Plan(
            num_per_magnification=request.num_per_magnification or numbers["num_per_magnification"],
            protocol=_protocol(numbers, request.allow),
            magnifications=magnifications,
            seed=request.how.seed,
            batch_size=request.batch_size,
        ),
        identity=trained.identity,
        make_untrained=trained.maker_of_untrained(request.how.seed),
        shipped=shipped_model(trained, request.how) if any(isinstance(row, Shipped) for row in rows) else None,
        conditioned_on=manifest.encoder.name,
        encoder=encoder,
        folder=folder / FOLDER / "patches",
    )
    return Evaluator(bench, manifest.ladder, rows=rows, metrics=metrics)


def _protocol(numbers: Mapping[str, Any], allow: tuple[str, ...]) -> Protocol:
    """Make the protocol; runs that were begun before there were several were evaluated by ``strict``."""
    named = numbers.get("protocol")
    return Option("evaluation.protocol", named, allow).make(Protocol) if named else Strict()


def _encoder(
    section: Mapping[str, Any], manifest: Manifest, device: str, notes: list[str], allow: tuple[str, ...]
) -> Encoder | None:
    """Build the encoder that conditions the model; where its weights are not at hand, say so and go on without."""
    try:
        manifest.check_encoder(section["name"])
        return Option("encoder", section, allow).make(Encoder, statistics=manifest.encoder.statistics).to(device)
    except UserError as error:
        notes.append(f"the encoder that conditions the model is not at hand, so nothing was measured by it: {error}")
        return None


def _hardware(fabric: Fabric) -> str:
    many = f"{fabric.world_size} processes on " if fabric.world_size > 1 else ""
    return many + device_name(fabric.device)


def _autoencoder_facts(trained: TrainedModels) -> dict[str, str]:
    """Say what the autoencoder began at, where that is the one that ships and not nothing."""
    begun = (trained.autoencoder.config.get("autoencoder") or {}).get("weights")
    return {"autoencoder": "begun at the one of the model that ships"} if begun == REFERENCE else {}


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
        kept = "reference" in manifest.columns
        notes.append(
            "real patches are stored as JPEG of quality 95, which a distance sees; "
            + ("lossless copies are compared where the table of numbers says so" if kept else "set data.reference")
        )
    return notes
