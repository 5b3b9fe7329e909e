"""A trained model in one small folder that needs neither runs nor data: the one that ships, or another of its kind.

<folder>/autoencoder.safetensors zoomldm.safetensors edm.safetensors     averaged weights, float16
         config.json                    what rebuilds them, and the data set's manifest without its samples
         README.md                      model card
         SHA256SUMS                     of all of these; nothing is read before they agree

Nothing is executed: weights are safetensors, classes those of this package. Importing this module imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoomldm.data.manifest import EncoderInfo, Manifest
from zoomldm.errors import WeightsError
from zoomldm.files import sha256_of
from zoomldm.ladder import Ladder
from zoomldm.runs.lineage import AUTOENCODER, ZOOMLDM
from zoomldm.runs.upgrade import upgraded
from zoomldm.stages.base import Stage, stage_of

if TYPE_CHECKING:
    from torch import nn

    from zoomldm.stages.trained import TrainedModels

KIND, FORMAT_VERSION = "zoomldm-packed", 1
CONFIG_NAME, CARD_NAME, SUMS_NAME = "config.json", "README.md", "SHA256SUMS"
PARTS = ("autoencoder", "zoomldm", "edm")
SHIPPED = Path(__file__).resolve().parents[1] / "reference"
"""The folder of the model that ships, in the package."""
REFERENCE = "reference"
"""What the model that ships is called (model=reference)."""


@dataclass(frozen=True)
class Part:
    """One of the models: its run's configuration without places, the step of its checkpoint, its trainable's facts."""

    config: Mapping[str, Any]
    step: int
    extra_state: Mapping[str, Any]


class PackedModel:
    """A packed model, by its folder (conf/model/reference.yaml).

    Args:
        name: what runs and pictures made with it are called; folder: None for the one that ships.
    """

    def __init__(self, *, name: str, folder: str | None) -> None:
        self.name = name
        self.folder = Path(folder).expanduser() if folder else SHIPPED

    @cached_property
    def sha256(self) -> dict[str, str]:
        """The hash of every file, by its name, as SHA256SUMS says and the files have it.

        Raises:
            WeightsError: there is no packed model, or a file is missing or damaged.
        """
        sums = self.folder / SUMS_NAME
        if not sums.is_file():
            raise WeightsError(
                f"model={self.name}: no packed model in {self.folder} (no {SUMS_NAME}); `python src/reference.py` "
                "trains it (hours), with pack=true it is written; or model.folder= names another folder"
            )
        named = {name: sha for sha, _, name in (line.partition("  ") for line in sums.read_text().splitlines())}
        for name, expected in named.items():
            path = self.folder / name
            if Path(name).name != name or not path.is_file() or sha256_of(path) != expected:
                state = "damaged (its SHA-256 is another)" if path.is_file() else "missing"
                raise WeightsError(f"{path}: {state}; install the package again, or pack the model again")
        return named

    @cached_property
    def content(self) -> dict[str, Any]:
        """What config.json says.

        Raises:
            WeightsError: of another kind or version.
        """
        if CONFIG_NAME not in self.sha256:
            raise WeightsError(f"{self.folder / SUMS_NAME}: names no {CONFIG_NAME}; pack the model again")
        found = json.loads((self.folder / CONFIG_NAME).read_bytes())
        kind, version = found.get("kind"), found.get("format_version")
        if (kind, version) != (KIND, FORMAT_VERSION):
            raise WeightsError(
                f"{self.folder}: kind {kind!r}, format version {version}; this code reads {KIND!r}, version "
                f"{FORMAT_VERSION}; pack the model again with it"
            )
        return found

    @property
    def has_edm(self) -> bool:
        """Whether it draws conditions out of nothing."""
        return "edm" in self.content["parts"]

    def part(self, kind: str) -> Part:
        """Return what is said of one of the models, its configuration as today's code reads it."""
        said = self.content["parts"][kind]
        return Part(**{**said, "config": upgraded(said["config"])})

    def stage(self, kind: str, runs: str | Path = "") -> Stage:
        """Return the stage that a part was trained as."""
        return stage_of({**self.part(kind).config, "paths": {"runs": str(runs)}})

    @property
    def config(self) -> dict[str, Any]:
        """The ZoomLDM's configuration."""
        return dict(self.part("zoomldm").config)

    @cached_property
    def manifest(self) -> Manifest:
        """The manifest of its data set: ladder, encoder and how it was prepared, without samples."""
        said = self.content["manifest"]
        known = {"ladder": Ladder(**said["ladder"]), "encoder": EncoderInfo(**said["encoder"])}
        return Manifest(**said | known, root=self.folder)

    def load(self, runs: str | Path, *, data_root: str | None = None, wants_edm: bool) -> TrainedModels:
        """Build the models.

        Args:
            runs: where what is made with it is kept, in the folder of its name.
            data_root: of a data set for what needs patches; None for its own manifest.

        Raises:
            UserError: a file is damaged; no embedding diffusion model; patches of another size or embedding.
        """
        from zoomldm.runs.run import Run
        from zoomldm.stages.loaded import LoadedAutoencoder
        from zoomldm.stages.trained import TrainedModels

        manifest = Manifest.load(data_root) if data_root else self.manifest
        self.require_data(manifest)
        if wants_edm and not self.has_edm:
            raise WeightsError(f"{self.folder}: holds no embedding diffusion model; choose source=oracle and data=")
        zoomldm = self._loaded("zoomldm", runs)
        return TrainedModels(
            run=Run(Path(runs) / self.name),
            manifest=manifest,
            model=zoomldm,
            autoencoder=self._loaded("autoencoder", runs, kind=LoadedAutoencoder, is_original=False),
            edm=self._loaded("edm", runs) if wants_edm else None,
        )

    def start(self, part: str, module: nn.Module) -> str:
        """Let a network that is to be trained begin at one of the models; return what is to be said of it.

        Raises:
            WeightsError: a file is damaged, or of other sizes.
        """
        file = f"{part}.safetensors"
        self._fill(module, self.folder / file, of="the network that is configured")
        return f"begins at the {part} of model={self.name}, SHA-256 {self.sha256[file][:12]}"

    def require_data(self, manifest: Manifest) -> None:
        """Refuse a data set that its model cannot read."""
        own = self.manifest
        if (manifest.ladder, manifest.encoder.dim) != (own.ladder, own.encoder.dim):
            raise WeightsError(
                f"{manifest.root}: {manifest.ladder}, embeddings of {manifest.encoder.dim} numbers; model={self.name} "
                f"was made for {own.ladder}, {own.encoder.dim} numbers; name such a data set (data=)"
            )
        manifest.check_encoder(own.encoder.name)

    def _loaded(self, part: str, runs: str | Path, *, kind: Any = None, **facts: Any) -> Any:
        from zoomldm.stages.loaded import Loaded

        said, file = self.part(part), f"{part}.safetensors"
        config = {**said.config, "paths": {"runs": str(runs)}}
        return (kind or Loaded)(
            module=self._module(part, self.stage(part, runs), said, self.folder / file),
            config=config,
            step=said.step,
            sha256=self.sha256[file],
            run_name=self.name,
            parents=self._parents(part),
            **facts,
        )

    def _module(self, part: str, stage: Any, said: Part, path: Path) -> nn.Module:
        from zoomldm.stages.loaded import EDM_FACTS

        facts: dict[str, Any] = {}
        if part == "zoomldm":
            sizes = {"num_rungs": len(self.manifest.ladder), "grid_dim": self.manifest.encoder.dim}
            facts = sizes | {"latent_scale": said.extra_state["latent_scale"]}
        elif part == "edm":
            facts = {key: value for key, value in said.extra_state.items() if key in EDM_FACTS}
        module = stage.untrained(**facts)
        self._fill(module, path, of=f"the model that {CONFIG_NAME} describes")
        return module.eval()

    def _fill(self, module: nn.Module, path: Path, *, of: str) -> None:
        from safetensors.torch import load_file

        try:
            module.load_state_dict(load_file(path))  # which brings float16 to the module's precision
        except RuntimeError as error:
            first = " ".join(str(error).split())[:400]
            raise WeightsError(f"{path}: does not fit {of}: {first}") from error

    def _parents(self, part: str) -> dict[str, str]:
        named = {"zoomldm": {AUTOENCODER: "autoencoder"}, "edm": {ZOOMLDM: "zoomldm"}}.get(part, {})
        return {role: self.sha256[f"{of}.safetensors"] for role, of in named.items()}


def shipped() -> PackedModel:
    """Return the model that ships."""
    return PackedModel(name=REFERENCE, folder=None)
