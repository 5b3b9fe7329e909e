"""What is rehearsed: for every documented command of the paper's size a stage that says what is cut, and nothing else.

A cut changes numbers of steps, patches and samples, the global batch, and which cells of a sweep are run; never an
architecture or a shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from zoomldm.rehearsal.documents import ELLIPSIS, Command, key_of, without

PLACES = ("slides", "autoencoder.weights", "unet.init", "hydra/launcher")
"""Keys of a documented command that say where something lies or runs."""
REHEARSAL = "rehearsal"
"""How distances are called: of a few patches, they are no FIDs whatever the weights."""

PREPARE, LATENTS, VERIFY = "data_prep/prepare.py", "data_prep/latents.py", "data_prep/verify.py"
TRAIN, EVALUATE, SAMPLE, SLIDE, EXPORT = (
    f"src/{name}.py" for name in ("train", "evaluate", "sample", "slide", "export")
)

FEW_PATCHES = {
    "data.max_patches_per_slide": "{default:1,20:6}",
    "data.min_tissue": "{default:0.1,1.25:0.05,0.625:0.01,0.3125:0.002,0.15625:0.0005}",
}
FEW_STEPS = {
    "train.steps": "1",
    "train.log_every": "1",
    "train.sample_every": "0",
    "train.keep_last": "1",
    "train.validation_samples": "2",
    "train.recalibration_samples": "8",
    "train.statistics_samples": "8",
}
SMALL_BATCH = {"optim.batch_size": "2", "optim.max_micro_batch": "2"}
FEW_TOKENS = FEW_STEPS | {"train.steps": "2", "optim.batch_size": "8", "optim.max_micro_batch": "8"}
ONE_CELL = (
    FEW_STEPS
    | SMALL_BATCH
    | {
        "hydra/launcher": "basic",
        "sampling.steps": "1",
        "features.called": REHEARSAL,
    }
)

JUDGED = {"evaluation.num_in_sweep": "8"}
NOT_JUDGED = {"evaluation.after_training": "false"}
"""One sweep is judged, at 20x; there are too few patches elsewhere."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A documented command, cut.

    Attributes:
        says: the command's words, without PLACES, by which it is found in the documents.
        cuts: what is set instead, or besides.
        needs: titles of the stages whose products it takes.
        named: the run has the name that the documented command gives, whatever is cut.
        cells: of a sweep, at full size.
        drops: remove the run's checkpoints when it is done: nothing later needs them.
    """

    title: str
    script: str
    says: frozenset[str]
    cuts: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    named: bool = False
    cells: int = 1
    drops: bool = False

    def is_of(self, command: Command) -> bool:
        """Say whether a documented command is this stage's."""
        return command.script == self.script and _sayings(command) == self.says

    def words(self, command: Command, places: Mapping[str, str], **more: str) -> list[str]:
        """Return what is typed: the document's words, with the cuts.

        Args:
            places: where slides and weights lie, for the keys that the command names.
            more: further cuts.
        """
        keys = {key_of(word) for word in command.words}
        cuts = {**{key: value for key, value in places.items() if key in keys}, **self.cuts, **more}
        kept = [word for word in without(command.words, cuts) if word != ELLIPSIS]
        return [*kept, *(f"{key}={value}" for key, value in cuts.items())]


def _sayings(command: Command) -> frozenset[str]:
    """Return what a command says, whatever its places; which share of how many is no matter."""
    words = frozenset(without(command.words, PLACES)) - {ELLIPSIS}
    return frozenset("part=SHARE" if key_of(word) == "part" else word for word in words)


def _stage(title: str, script: str, says: str, cuts: Mapping[str, str] | None = None, **rest: object) -> Stage:
    return Stage(title=title, script=script, says=frozenset(says.split()), cuts=cuts or {}, **rest)  # type: ignore[arg-type]


PREPARED, COLUMN, MODEL, TOKENS, ZOOM = "prepare", "latents", "ZoomLDM", "EDM", "zooming EDM"
TOLD, RESUMED, EXPORTED = "ZoomLDM, told the level above", "ZoomLDM, resumed", "export"

STAGES = (
    _stage("plan of the data", PREPARE, "data=brca_8mag plan=true", FEW_PATCHES),
    _stage(
        "a share of the slides", PREPARE, "data=brca_8mag encoder=hipt part=SHARE",
        FEW_PATCHES | {"part": "1/16"},
    ),
    _stage(PREPARED, PREPARE, "data=brca_8mag encoder=hipt", FEW_PATCHES),
    _stage(
        "features as HDF5", PREPARE, "data=brca_8mag encoder=hipt export=h5", FEW_PATCHES, needs=(PREPARED,),
    ),
    _stage(COLUMN, LATENTS, "data=brca_8mag", needs=(PREPARED,)),
    _stage("verify", VERIFY, "data=brca_8mag", needs=(PREPARED,)),
    _stage("plan of the training", TRAIN, "model=zoomldm data=brca_8mag plan=true", needs=(PREPARED,)),
    _stage(MODEL, TRAIN, "model=zoomldm data=brca_8mag", FEW_STEPS | SMALL_BATCH, needs=(COLUMN,), named=True),
    _stage(
        RESUMED, TRAIN, "model=zoomldm data=brca_8mag", FEW_STEPS | SMALL_BATCH | {"train.steps": "2"},
        needs=(MODEL,), named=True,
    ),
    _stage(TOKENS, TRAIN, "model=edm data=brca_8mag", FEW_TOKENS, needs=(MODEL,), named=True),
    _stage(
        "evaluate", EVALUATE, "data=brca_8mag features=inception rows=[halves,oracle,generated]",
        {
            "num_per_magnification": "8", "magnifications": "[20]", "sampling.steps": "1", "batch_size": "4",
            "features.called": REHEARSAL,
        },
        needs=(TOKENS,),
    ),
    _stage(
        "sample", SAMPLE, "data=brca_8mag magnification=5 n=16 source=generated",
        {"n": "1", "sampling.steps": "1"}, needs=(TOKENS,),
    ),
    _stage(EXPORTED, EXPORT, "run=zoomldm-brca_8mag-film", needs=(TOKENS,)),
    _stage(ZOOM, TRAIN, "model=edm_zoom data=brca_8mag", FEW_TOKENS, needs=(MODEL,), named=True),
    _stage(
        TOLD, TRAIN, "model=zoomldm_zoom data=brca_8mag", FEW_STEPS | SMALL_BATCH, needs=(MODEL,), named=True,
    ),
    _stage(
        "slide", SLIDE, "run=zoomldm_zoom-brca_8mag-film out=synthetic.ome.tiff block=4",
        {
            "out": "${paths.runs}/synthetic.ome.tiff", "target": "0.3125", "sampling.steps": "2", "zoom.steps": "1",
        },
        needs=(ZOOM, TOLD),
    ),
    _stage(
        "table1", TRAIN,
        "-m experiments=table1 model=zoomldm data=brca_8mag evaluation=paper "
        "experiments/table1=unified,single_0.625x,single_0.3125x,single_0.15625x",
        ONE_CELL | NOT_JUDGED | {"experiments/table1": "single_0.625x"}, needs=(COLUMN,), cells=4, drops=True,
    ),
    _stage(
        "conditioning", TRAIN, "-m experiments=conditioning model=zoomldm data=brca_8mag evaluation=paper",
        ONE_CELL | JUDGED | {"cond": "cnn"}, needs=(COLUMN,), cells=6, drops=True,
    ),
    _stage(
        "sweep", TRAIN, "-m cond=film,none model=zoomldm data=brca_8mag",
        ONE_CELL | NOT_JUDGED | {"cond": "none"}, needs=(COLUMN,), cells=2, drops=True,
    ),
    _stage(
        "DDP", TRAIN, "model=zoomldm data=brca_8mag fabric=ddp fabric.devices=8",
        FEW_STEPS | SMALL_BATCH | {"fabric.devices": "2", "run_name": "rehearsal-ddp"}, needs=(MODEL,), drops=True,
    ),
)  # fmt: skip
"""In the order of a reader who begins with slides."""

NOT_REHEARSED = {
    (PREPARE, frozenset(["data=brca_8mag", "encoder=hipt", "executor=ray"])): "needs a Ray cluster",
    (PREPARE, frozenset(["data=brca_8mag", "encoder=ctranspath", "add=grid"])): "another encoder's weights",
    (PREPARE, frozenset(["data=brca_8mag", "encoder=hipt", "part=SHARE", "slide.cache=$TMPDIR/slides"])): "a share of "
    "the slides once more, read from copies; tests compare both",
    (
        TRAIN,
        frozenset(["model=autoencoder", "data=brca_8mag"]),
    ): "a published autoencoder on a stain of one's own; tests load its layout in small and train it",
    (SAMPLE, frozenset(["weights=weights/zoomldm_brca.ckpt", "data=brca_8mag"])): "the later official model, as a "
    "published file; tests load it in small",
}
"""Commands of the paper's size that no stage types, and why."""

IN_SHORT = ("plan of the data", PREPARED, "verify")
"""Stages of the short form."""


def command_of(stage: Stage, commands: Sequence[Command]) -> Command | None:
    """Return the documented command that a stage types, None where no document has it any more."""
    return next((one for one in commands if stage.is_of(one)), None)


def unclaimed(commands: Sequence[Command]) -> list[Command]:
    """Return the documented commands that neither a stage types nor NOT_REHEARSED explains."""
    return [
        one
        for one in commands
        if not any(stage.is_of(one) for stage in STAGES) and (one.script, _sayings(one)) not in NOT_REHEARSED
    ]
