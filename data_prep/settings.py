"""What a preparation is told, as plain dataclasses; ``from_config`` makes them of the configuration."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from data_prep.fold.regions import RegionSettings
from data_prep.tissue.mask import TissueSettings, segmenter_of
from zoomldm.config import Option, options_of
from zoomldm.errors import ConfigError, near_match
from zoomldm.ladder import Ladder


@dataclass(frozen=True, kw_only=True)
class SlideSettings:
    """What decides the pixels and rows that a slide gives: another value, and the slides are to be read again.

    Attributes:
        encoder: the tile encoder.
        readers: ways to open a slide, of which the first that knows its kind is taken; they give the same pixels.
        reference: by magnification, the part of the patches that is also kept lossless (JPEG data sets).
        area_test_fraction: of the tissue, where a single patient's slides serve both splits.
        encode_background: encode background tiles too, instead of giving them the glass's embedding.
        mpp: scale of slides that do not say theirs, micrometres a pixel of level 0; each slide notes its own scale, so
            that it does not belong to what a folder is about.
        icc: bring colours to sRGB by the file's profile.
        seed: of the choice among a slide's regions.
    """

    ladder: Ladder
    encoder: Option
    readers: tuple[Option, ...]
    tissue: TissueSettings
    regions: RegionSettings
    image_format: str = "png"
    reference: dict[str, float] = field(default_factory=dict)
    area_test_fraction: float = 0.4
    encode_background: bool = False
    mpp: float | None = None
    icc: bool = True
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return what must be equal for two runs to share a folder; of the encoder its name (slides keep its hash)."""
        known = asdict(replace(self, readers=())) | {
            "encoder": {"name": self.encoder.name},
            "tissue": self.tissue.to_dict(),
        }
        return {key: value for key, value in known.items() if key not in ("readers", "mpp")}


@dataclass(frozen=True, kw_only=True)
class PackSettings:
    """What decides which samples go into which shard: another value, and the same slides' work is packed anew.

    Attributes:
        name: the data set's.
        split_mode: ``patients`` (a seeded part is held out) or ``paper`` (all in train).
        test_fraction: of the patients.
        min_samples: a magnification with fewer samples than this in a split is dropped, by split.
        seed: of the patients' split and of the order of samples.
    """

    name: str
    split_mode: str = "patients"
    test_fraction: float = 0.2
    min_samples: dict[str, int] = field(default_factory=lambda: {"train": 1, "test": 0})
    shard_samples: int = 1000
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def from_config(cfg: Any) -> tuple[SlideSettings, PackSettings]:
    """Translate ``cfg`` (keys ``data``, ``encoder``, ``reader``, ``slide``, ``split``) and check every value.

    Raises:
        ConfigError: a value that makes no sense, with its key.
    """
    data, encoder = plain(cfg.data), plain(cfg.encoder)
    ladder = Ladder(**data["ladder"])
    split = data.get("split") or {}
    split = {"mode": split} if isinstance(split, str) else dict(split)
    slide = cfg.get("slide") or data.get("slide") or {}
    seed = data.get("seed", 0)
    slide_settings = SlideSettings(
        ladder=ladder,
        encoder=Option("encoder", encoder, tuple(cfg.get("allow_code") or ())).given(
            tile_px=ladder.patch_px, tile_mpp=ladder.base_mpp
        ),
        readers=readers_of(cfg),
        tissue=tissue_of(cfg),
        regions=_regions(data, ladder),
        image_format=_one_of(data.get("image_format", "png"), "data.image_format", ("png", "jpeg")),
        reference=by_label(data.get("reference"), ladder, "data.reference", 0.0),
        area_test_fraction=split.get("area_test_fraction", 0.4),
        encode_background=bool(data.get("encode_background", False)),
        mpp=slide.get("mpp"),
        icc=bool(slide.get("icc", True)),
        seed=seed,
    )
    pack_settings = PackSettings(
        name=data["name"],
        split_mode=cfg.get("split") or split.get("mode", "patients"),
        test_fraction=number_in(split.get("test_fraction", 0.2), "data.split.test_fraction", 0.0, 0.9),
        min_samples={"train": 1, "test": 0} | dict(data.get("min_samples") or {}),
        shard_samples=int(number_in(data.get("shard_samples", 1000), "data.shard_samples", 1, 10**6)),
        seed=seed,
    )
    return slide_settings, pack_settings


def readers_of(cfg: Any) -> tuple[Option, ...]:
    """Return the ways to open a slide that ``reader=[…]`` chooses, in their order.

    Raises:
        ConfigError: none.
    """
    sections = plain(cfg.reader)
    if not sections:
        raise ConfigError("reader=[]: expected one or more, for example reader=[auto,flat]")
    return tuple(options_of("reader", sections, tuple(cfg.get("allow_code") or ())).values())


def plain(section: Any) -> dict[str, Any]:
    """Return a section of the configuration as a plain dictionary, with its references resolved."""
    from omegaconf import OmegaConf

    return OmegaConf.to_container(section, resolve=True) if OmegaConf.is_config(section) else dict(section)


def by_label(values: Any, ladder: Ladder, key: str, default: Any) -> dict[str, Any]:
    """Return a setting for every magnification: one value for all, or a mapping {magnification: value, default: value}.

    Raises:
        ConfigError: a magnification that is not on the ladder.
    """
    if not isinstance(values, Mapping):
        return dict.fromkeys(ladder.labels, default if values is None else values)
    common = values.get("default", default)
    chosen = dict.fromkeys(ladder.labels, common)
    for magnification, value in values.items():
        if magnification != "default":
            try:
                chosen[ladder.rung_of(magnification).label] = value
            except ConfigError as error:
                raise ConfigError(f"{key}: {error}") from error
    return chosen


def differences(old: Any, new: Any, prefix: str = "") -> list[str]:
    """Return the differing keys of two nested dictionaries as ``key: old there, new now``."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        found = []
        for key in sorted({*old, *new}, key=str):
            found += differences(old.get(key), new.get(key), f"{prefix}.{key}" if prefix else str(key))
        return found
    return [] if old == new else [f"{prefix}: {old} there, {new} now"]


def number_in(value: Any, key: str, low: float, high: float) -> float:
    """Return a number that lies between two others.

    Raises:
        ConfigError: it does not, with its key.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ConfigError(f"{key}={value}: expected a number from {low:g} to {high:g}")
    return value


def _one_of(value: Any, key: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ConfigError(f"{key}={value}: expected {' or '.join(known)}")
    return value


def _regions(data: Mapping[str, Any], ladder: Ladder) -> RegionSettings:
    regions = RegionSettings(
        min_tissue=by_label(data.get("min_tissue"), ladder, "data.min_tissue", 0.5),
        stride=by_label(data.get("stride"), ladder, "data.stride", 1.0),
        max_per_slide=by_label(data.get("max_patches_per_slide"), ladder, "data.max_patches_per_slide", None),
    )
    for name in ladder.labels:
        number_in(regions.min_tissue[name], f"data.min_tissue.{name}", 0, 1)
        number_in(regions.stride[name], f"data.stride.{name}", 0.001, 1)
        if regions.max_per_slide[name] is not None:
            number_in(regions.max_per_slide[name], f"data.max_patches_per_slide.{name}", 1, 10**9)
    return regions


def tissue_of(cfg: Any) -> TissueSettings:
    """Return how masks are made (``tissue=…``) and used (``data.tissue``).

    Raises:
        ConfigError: an unknown key, or a value that makes no sense.
    """
    values = plain(cfg.data.tissue)
    known = [name for name in TissueSettings.__dataclass_fields__ if name != "segmenter"]
    for name in values:
        if name not in known:
            raise ConfigError(
                f"data.tissue.{name}: no such key;{near_match(name, known)} expected {', '.join(known)} (tissue=… and "
                "tissue.…=… say how the mask is made)"
            )
    settings = TissueSettings(
        segmenter=Option("tissue", plain(cfg.tissue), tuple(cfg.get("allow_code") or ())), **values
    )
    segmenter_of(settings.segmenter)  # so that what its class refuses is said before the first slide
    if settings.cells_per_tile < 1:
        raise ConfigError(f"data.tissue.cells_per_tile={settings.cells_per_tile}: expected 1 or more")
    if settings.regions and not Path(settings.regions).is_dir():
        raise ConfigError(f"data.tissue.regions={settings.regions}: no such folder (of GeoJSON files named by slide)")
    return settings
