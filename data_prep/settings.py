"""What a preparation is told, as plain dataclasses; ``from_config`` makes them of the configuration."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.fold.regions import RegionSettings
from data_prep.magnitudes import most_of_test, number_in, numbers_by_label, regions_of
from data_prep.tissue.mask import TissueSettings, segmenter_of
from zoomldm.config import Option, options_of
from zoomldm.data.schema import SPLITS
from zoomldm.errors import ConfigError
from zoomldm.ladder import Ladder

if TYPE_CHECKING:
    from omegaconf import DictConfig


@dataclass(frozen=True, kw_only=True)
class CacheSettings:
    """A local folder that slides are copied to before they are read, and how many GB all copies may take together."""

    folder: str
    most_gb: float | None


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
        cache: where slides are copied to before they are read; which changes nothing of what they give.
        seed: of the choice among a slide's regions.
    """

    ladder: Ladder
    encoder: Option
    readers: tuple[Option, ...]
    tissue: TissueSettings
    regions: RegionSettings
    image_format: str
    reference: dict[str, float]
    area_test_fraction: float
    encode_background: bool
    mpp: float | None
    icc: bool
    cache: CacheSettings | None
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Return what must be equal for two runs to share a folder; of the encoder its name (slides keep its hash)."""
        known = asdict(replace(self, readers=())) | {
            "encoder": {"name": self.encoder.name},
            "tissue": self.tissue.to_dict(),
        }
        return {key: value for key, value in known.items() if key not in ("readers", "mpp", "cache")}


@dataclass(frozen=True, kw_only=True)
class PackSettings:
    """What decides which samples go into which shard: another value, and the same slides' work is packed anew.

    Attributes:
        name: the data set's.
        split_mode: ``patients`` (a seeded part is held out) or ``paper`` (all in train).
        test_fraction: of the patients.
        min_samples: a magnification with fewer samples than this in a split is dropped, by split.
        seed: of the patients' split and of the order of samples.
        max_test_per_slide: by magnification, at most so many samples of a held-out patient's slide; None for all.
    """

    name: str
    split_mode: str
    test_fraction: float
    min_samples: dict[str, int]
    shard_samples: int
    seed: int
    max_test_per_slide: dict[str, int | None] | None

    def to_dict(self) -> dict[str, Any]:
        """Return what must be equal for shards to stay; what was not asked for is left out, as before it could be."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def from_config(cfg: DictConfig) -> tuple[SlideSettings, PackSettings]:
    """Translate ``cfg`` (keys ``data``, ``encoder``, ``reader``, ``slide``, ``split``) and check every value.

    Raises:
        ConfigError: a value that makes no sense, with its key.
    """
    data = plain(cfg.data)
    ladder = Ladder(**data["ladder"])
    split = data["split"]
    slide_settings = SlideSettings(
        ladder=ladder,
        encoder=Option("encoder", plain(cfg.encoder), tuple(cfg.allow_code)).given(
            tile_px=ladder.patch_px, tile_mpp=ladder.base_mpp
        ),
        readers=readers_of(cfg),
        tissue=tissue_of(cfg),
        regions=regions_of(data, ladder),
        image_format=_one_of(data["image_format"], "data.image_format", ("png", "jpeg")),
        reference=numbers_by_label(data["reference"], ladder, "data.reference", 0, 1),
        area_test_fraction=number_in(split["area_test_fraction"], "data.split.area_test_fraction", 0.0, 0.9),
        encode_background=data["encode_background"],
        mpp=cfg.slide.mpp,
        icc=cfg.slide.icc,
        cache=cache_of(cfg.slide.cache, cfg.slide.cache_gb),
        seed=data["seed"],
    )
    pack_settings = PackSettings(
        name=data["name"],
        split_mode=cfg.split or split["mode"],
        test_fraction=number_in(split["test_fraction"], "data.split.test_fraction", 0.0, 0.9),
        min_samples={
            split: number_in(data["min_samples"].get(split), f"data.min_samples.{split}", 0, 10**9) for split in SPLITS
        },
        shard_samples=number_in(data["shard_samples"], "data.shard_samples", 1, 10**6),
        seed=data["seed"],
        max_test_per_slide=most_of_test(data, ladder),
    )
    return slide_settings, pack_settings


def cache_of(folder: str | None, most_gb: float | None) -> CacheSettings | None:
    """Return where slides are copied to (``slide.cache``, ``slide.cache_gb``), None where they are not.

    Raises:
        ConfigError: a size without a folder, or one that makes no sense.
    """
    if most_gb is not None:
        number_in(most_gb, "slide.cache_gb", 0.001, 1e6)
        if folder is None:
            raise ConfigError(f"slide.cache_gb={most_gb}: has no effect without slide.cache=FOLDER; give that too")
    return CacheSettings(folder=str(Path(folder).expanduser().absolute()), most_gb=most_gb) if folder else None


def readers_of(cfg: DictConfig) -> tuple[Option, ...]:
    """Return the ways to open a slide that ``reader=[…]`` chooses, in their order.

    Raises:
        ConfigError: none.
    """
    sections = plain(cfg.reader)
    if not sections:
        raise ConfigError("reader=[]: expected one or more, for example reader=[auto,flat]")
    return tuple(options_of("reader", sections, tuple(cfg.allow_code)).values())


def plain(section: Any) -> dict[str, Any]:
    """Return a section of the configuration as a plain dictionary, with its references resolved."""
    from omegaconf import OmegaConf

    return OmegaConf.to_container(section, resolve=True) if OmegaConf.is_config(section) else dict(section)


def _one_of(value: Any, key: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ConfigError(f"{key}={value}: expected {' or '.join(known)}")
    return value


def tissue_of(cfg: DictConfig) -> TissueSettings:
    """Return how masks are made (``tissue=…``) and used (``data.tissue``).

    Raises:
        ConfigError: a value that makes no sense.
    """
    segmenter = Option("tissue", plain(cfg.tissue), tuple(cfg.allow_code))
    settings = TissueSettings(segmenter=segmenter, **plain(cfg.data.tissue))
    segmenter_of(settings.segmenter)  # so that what its class refuses is said before the first slide
    if settings.cells_per_tile < 1:
        raise ConfigError(f"data.tissue.cells_per_tile={settings.cells_per_tile}: expected 1 or more")
    if settings.min_focus is not None:
        number_in(settings.min_focus, "data.tissue.min_focus", 0, 10)
    if settings.regions and not Path(settings.regions).is_dir():
        raise ConfigError(f"data.tissue.regions={settings.regions}: no such folder (of GeoJSON files named by slide)")
    return settings
