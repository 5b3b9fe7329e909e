"""What the configuration of each entry may hold, by type: OmegaConf refuses other keys and values, also in a file.

A section whose settings the code has as a dataclass is declared by that dataclass. Values stand in one place: in
``conf/`` those of a field without a default, with the field the others. A section of an option (``_target_``) is free
here, because its class knows what it takes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

from zoomldm.app.requests import Limits
from zoomldm.canvas.settings import Agreement, Glass, Inversion
from zoomldm.ladder import Ladder
from zoomldm.launch.settings import FabricSettings
from zoomldm.training.settings import LoopSettings, OptimSettings

Section = Any
"""A section that is an option, or that no dataclass declares."""


@dataclass(kw_only=True)
class Paths:
    """Where things lie (conf/paths)."""

    root: str
    data: str
    weights: str
    runs: str
    cache: str
    remote: str | None
    remote_gb: float


@dataclass(kw_only=True)
class Entry:
    """What every entry has."""

    folder_of_script: ClassVar[str] = "src"
    paths: Paths
    allow_code: list[str]


@dataclass(kw_only=True)
class Magnifications:
    """Which magnifications are trained (conf/training)."""

    name: str
    magnification: float | None
    match: str | None
    augment: list[float]


@dataclass(kw_only=True)
class Sampling:
    """How patches are sampled; None: as the run's configuration says. Guidance may differ by magnification."""

    steps: int | None
    guidance_scale: Any
    guidance_interval: list[float] | None


@dataclass(kw_only=True)
class PatchSampling(Sampling):
    """The same of patches whose conditions an embedding diffusion model may draw: guidance of the two."""

    edm_guidance_scale: Any


@dataclass(kw_only=True)
class DataTissue:
    """How the mask of a slide's tissue is used."""

    cells_per_tile: int
    min_tile: float
    min_focus: float | None
    regions: str | None
    regions_replace: bool


@dataclass(kw_only=True)
class Split:
    """Who is held out."""

    mode: str
    test_fraction: float
    area_test_fraction: float


@dataclass(kw_only=True)
class Data:
    """A data set (conf/data), in the order in which its manifest keeps it; what is free may differ by magnification."""

    name: str
    root: str
    slides: str | None
    demo_slides: Any
    ladder: Ladder
    image_format: str
    reference: Any
    tissue: DataTissue
    encode_background: bool
    min_tissue: Any
    stride: Any
    max_patches_per_slide: Any
    split: Split
    min_samples: dict[str, int]
    shard_samples: int
    seed: int


@dataclass(kw_only=True)
class Evaluation:
    """How much is evaluated, and when (conf/evaluation)."""

    after_training: bool | None
    protocol: Section
    num_per_magnification: int
    num_in_sweep: int


@dataclass(kw_only=True)
class SlideScale:
    """What slides do not say themselves."""

    mpp: float | None
    icc: bool
    frozen: bool
    cache: str | None
    cache_gb: float | None


@dataclass(kw_only=True)
class Weights:
    """A trained autoencoder: a run or a published file."""

    run: str | None
    weights: str | None


@dataclass(kw_only=True)
class DataSet(Entry):
    """conf/data_set.yaml."""

    folder_of_script: ClassVar[str] = "data_prep"
    data: Data
    tissue: Section
    encoder: Section
    features: Section


@dataclass(kw_only=True)
class Slides(DataSet):
    """conf/slides.yaml."""

    reader: Section
    slides: str | None
    slide: SlideScale
    split: str | None


@dataclass(kw_only=True)
class Prepare(Slides):
    """conf/prepare.yaml."""

    workers: int | None
    encoders: int | None
    executor: str
    timeout_s: float | None
    part: str | None
    drop_images: bool
    repack: bool
    max_failed: float
    plan: bool
    add: str | None
    export: str | None


@dataclass(kw_only=True)
class Latents(DataSet):
    """conf/latents.yaml."""

    autoencoder: Weights
    variants: list[float]
    repack: bool


@dataclass(kw_only=True)
class Verify(Slides):
    """conf/verify.yaml."""

    repair: bool


@dataclass(kw_only=True)
class CompareData(Entry):
    """conf/compare_data.yaml."""

    folder_of_script: ClassVar[str] = "data_prep"
    features: Section
    synthetic: str
    real: str
    num_per_magnification: int
    seed: int
    folder: str | None


@dataclass(kw_only=True)
class Train(Entry):
    """conf/train.yaml."""

    data: Data
    tissue: Section
    encoder: Section
    features: Section
    cond: Section
    curriculum: Section
    tracking: Section
    rows: Section
    metrics: Section
    model: Section
    training: Magnifications
    fabric: FabricSettings
    optim: OptimSettings
    train: LoopSettings
    evaluation: Evaluation
    autoencoder: Section = None
    zoomldm: Section = None
    label: Section = None
    unet: Section = None
    diffusion: Section = None
    schedule: Section = None
    prediction: Section = None
    solver: Section = None
    sampling: Sampling | None = None
    run_name: str | None
    seed: int
    fresh: bool
    plan: bool


@dataclass(kw_only=True)
class Evaluate(Entry):
    """conf/evaluate.yaml."""

    model: Section = None
    data: Data | None = None
    tissue: Section = None
    encoder: Section = None
    features: Section = None
    tracking: Section
    solver: Section = None
    run: str | None
    step: int | None
    edm: str | None
    evaluation: Section = None
    rows: Section
    metrics: Section
    num_per_magnification: int | None
    magnifications: list[float] | None
    sampling: PatchSampling
    seed: int
    batch_size: int
    fabric: FabricSettings
    fresh: bool


@dataclass(kw_only=True)
class Compare(Entry):
    """conf/compare.yaml."""

    runs: list[str]
    distance: str | None
    against: str | None
    folder: str | None


@dataclass(kw_only=True)
class Sample(Entry):
    """conf/sample.yaml."""

    model: Section = None
    data: Data | None = None
    tissue: Section = None
    encoder: Section = None
    features: Section = None
    reader: Section
    solver: Section = None
    source: Section
    to: Section
    run: str | None
    edm: str | None
    weights: str | None
    edm_weights: str | None
    magnification: float | None
    n: int
    variations: int | None
    interpolate: int | None
    scene: bool
    sampling: PatchSampling
    seed: int
    batch_size: int
    fabric: FabricSettings
    folder: str | None


@dataclass(kw_only=True)
class Zoom:
    """How the tokens of children are drawn."""

    steps: int
    guidance_scale: float


@dataclass(kw_only=True)
class Coarse:
    """How the patches of the coarse levels of a slide are drawn; to: the finest of them, None: none."""

    to: float | None
    steps: int
    guidance_scale: float
    reach: int
    final: int


@dataclass(kw_only=True)
class Slide(Entry):
    """conf/slide.yaml."""

    model: Section = None
    data: Data | None = None
    tissue: Section = None
    encoder: Section = None
    features: Section = None
    solver: Section = None
    source: Section
    reader: Section
    out: str
    run: str | None
    edm: str | None
    root: float | None
    target: float
    roots: str | None
    region: Any
    overview: float | None
    mask: Any
    stays: Any
    other: Any
    other_at: list[float] | None
    inversion: Inversion
    n: int
    seed: int
    sampling: Sampling
    coarse: Coarse
    zoom: Zoom
    agreement: Agreement
    overlap: float
    glass: Glass
    block: int
    halo: int
    batch_size: int
    compression: str
    mark: bool
    keep: bool
    plan: bool
    fabric: FabricSettings


@dataclass(kw_only=True)
class App(Entry):
    """conf/app.yaml."""

    model: Section = None
    data: Data | None = None
    tissue: Section = None
    encoder: Section = None
    features: Section = None
    reader: Section
    run: str | None
    edm: str | None
    split: str
    slides: list[str] | None
    port: int
    folder: str
    limits: Limits
    fabric: FabricSettings


@dataclass(kw_only=True)
class View(Entry):
    """conf/view.yaml."""

    slides: list[str]
    mpp: float | None
    patch_px: int
    port: int


@dataclass(kw_only=True)
class Export(Entry):
    """conf/export.yaml."""

    run: str | None
    edm: str | None
    title: str
    folder: str | None
    fresh: bool


@dataclass(kw_only=True)
class Demo(Entry):
    """conf/demo.yaml."""

    slides: str | None
    mpp: float | None


@dataclass(kw_only=True)
class Reference(Entry):
    """conf/reference.yaml."""

    patients: int | None
    growth: int
    pack: bool
    folder: str | None


@dataclass(kw_only=True)
class Doctor(Entry):
    """conf/doctor.yaml."""


@dataclass(kw_only=True)
class Rehearse(Entry):
    """conf/rehearse.yaml."""

    slides: str | None
    folder: str
    data: str
    accelerator: str
    precision: str
    devices: int | None
    stages: list[str] | None
    short: bool
    keep: bool


ENTRIES = {
    "prepare": Prepare,
    "latents": Latents,
    "verify": Verify,
    "compare_data": CompareData,
    "train": Train,
    "evaluate": Evaluate,
    "compare": Compare,
    "sample": Sample,
    "slide": Slide,
    "app": App,
    "view": View,
    "export": Export,
    "demo": Demo,
    "reference": Reference,
    "rehearse": Rehearse,
    "doctor": Doctor,
}
"""By the name of the primary configuration, whose defaults list begins with ``<name>_schema``."""


def takers(key: str) -> list[str]:
    """Return the scripts that take a key or group, by what their schemas declare at the top."""
    name = key.partition(".")[0]
    return [script_of(entry) for entry, kind in ENTRIES.items() if name in {one.name for one in fields(kind)}]


def script_of(entry: str) -> str:
    """Return the script of an entry, in the repository."""
    return f"{ENTRIES[entry].folder_of_script}/{entry}.py"
