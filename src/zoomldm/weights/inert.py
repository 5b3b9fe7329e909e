"""The allow-list for old pickles: names that Lightning, argparse, omegaconf and numpy leave in checkpoint files.

`torch.load(weights_only=True)` refuses every name but those of tensors. Each name below is let through, but it is not
the class of that name that is made: it is a stand-in which takes any arguments, keeps none and does nothing. So no code
of another package runs, the packages need not be installed, and a mistake in this list cannot become a way in. Only the
tensors of a file are read; its settings, counters and callbacks are not.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import cache
from typing import Any


class Inert:
    """Stand in for an object of a checkpoint that is not needed: takes anything, keeps nothing, does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> Inert:
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


class InertDict(OrderedDict):
    """Stand in for a class derived from dict; what is made is a plain OrderedDict, which the unpickler can fill."""

    def __new__(cls, *_: Any, **__: Any) -> OrderedDict:
        return OrderedDict()


_LIGHTNING = ("pytorch_lightning", "lightning.pytorch", "lightning")

INERT_TYPES: tuple[str, ...] = (
    # DINO and DiT keep the command line of their training
    "argparse.Namespace",
    "pathlib.PosixPath",
    "pathlib.PurePosixPath",
    "pathlib.WindowsPath",
    # numpy scalars and arrays: counters and losses of callbacks (both names of the module, before and after numpy 2)
    "numpy.dtype",
    "numpy.ndarray",
    "numpy.core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct",
    *(f"numpy.{name}" for name in ("float16", "float32", "float64", "int32", "int64", "uint8", "bool_")),
    # omegaconf: hyper-parameters of latent-diffusion and of what was built on it
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    "omegaconf.base.SCMode",
    *(f"omegaconf.nodes.{kind}Node" for kind in ("Any", "String", "Integer", "Float", "Boolean", "Enum", "Path")),
    "typing.Any",
    *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("dict", "list", "tuple", "str")),
    *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("int", "float", "bool")),
    # Lightning: its callbacks appear as keys of a table, its enums as values
    *(
        f"{package}.{path}"
        for package in _LIGHTNING
        for path in (
            "callbacks.model_checkpoint.ModelCheckpoint",
            "callbacks.early_stopping.EarlyStopping",
            "callbacks.lr_monitor.LearningRateMonitor",
            "trainer.states.TrainerFn",
            "trainer.states.TrainerStatus",
            "utilities.enums.LightningEnum",
        )
    ),
    # callbacks that latent-diffusion's own main.py defines
    *(
        f"{module}.{name}"
        for module in ("main", "__main__")
        for name in ("SetupCallback", "ImageLogger", "CUDACallback")
    ),
)

INERT_DICTS: tuple[str, ...] = (
    "collections.defaultdict",
    *(f"{package}.utilities.parsing.AttributeDict" for package in _LIGHTNING),
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.fabric.utilities.data.AttributeDict",
)


@cache
def allow_list() -> list[tuple[type, str]]:
    """Return pairs (stand-in, name) as `torch.serialization.safe_globals` takes them, one stand-in a name."""
    inert = [(type(name.rpartition(".")[2], (Inert,), {}), name) for name in INERT_TYPES]
    return inert + [(type(name.rpartition(".")[2], (InertDict,), {}), name) for name in INERT_DICTS]
