"""Slides to shards: ``python data_prep/prepare.py data=demo``; its keys are in conf/{prepare,slides,data_set}.yaml."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from data_prep.preparation import Preparation
    from data_prep.slides.table import SlideSpec
    from data_prep.tissue.mask import TissueSettings
    from zoomldm.data.manifest import Manifest


def prepare(cfg: DictConfig) -> Manifest | None:
    """Do what the configuration (conf/prepare.yaml) says; returns the manifest, None for a part, a plan or an export.

    Raises:
        UserError: whatever the user can mend.
    """
    from data_prep.execution.executor import make_executor
    from data_prep.magnitudes import number_in
    from data_prep.pipeline import run
    from zoomldm.errors import ConfigError

    preparation = preparation_of(cfg)
    if cfg.add not in (None, "grid"):
        raise ConfigError(f"add={cfg.add}: expected grid (latents are added by data_prep/latents.py)")
    if cfg.export not in (None, "h5"):
        raise ConfigError(f"export={cfg.export}: expected h5 (features and coordinates of every slide)")
    if cfg.export:
        from data_prep.export.features import export_features

        export_features(preparation)
        return None
    part = parse_part(cfg.part)
    executor = make_executor(cfg.executor, workers=cfg.workers, timeout_s=cfg.timeout_s, encoders=cfg.encoders)
    if cfg.plan:
        from data_prep.report.estimate import print_estimate

        print_estimate(preparation, executor)
        return None
    if cfg.add:
        from data_prep.columns.grid import replace_grids

        return replace_grids(preparation, executor, repack=cfg.repack)
    return run(
        preparation,
        executor,
        part=part,
        drop_images=cfg.drop_images,
        repack=cfg.repack,
        max_failed=number_in(cfg.max_failed, "max_failed", 0, 1),
    )


def preparation_of(cfg: DictConfig) -> Preparation:
    """Return what the configuration is about: its slides, settings and folder.

    Raises:
        ConfigError: no slides, or a value that makes no sense.
    """
    from data_prep.preparation import Preparation
    from data_prep.settings import from_config, plain
    from data_prep.slides.readers.base import suffixes_of
    from data_prep.slides.table import excluded_in, find_slides, is_frozen
    from zoomldm.errors import ConfigError

    slide_settings, pack_settings = from_config(cfg)
    slides = cfg.slides or demo_slides(cfg)
    specs, faults = find_slides(str(slides), suffixes_of(slide_settings.readers), slide_settings.mpp)
    frozen = [spec.name for spec in specs if is_frozen(spec.name) and not cfg.slide.frozen]
    if specs and len(frozen) == len(specs):
        raise ConfigError(f"slides={slides} slide.frozen=false: every slide of it is a frozen section by its barcode")
    specs = with_presets([spec for spec in specs if spec.name not in frozen], slide_settings.tissue)
    config = {name: value for name, value in plain(cfg.data).items() if name not in ("root", "slides")}
    return Preparation(
        root=Path(cfg.data.root),
        specs=specs,
        faults=faults,
        excluded=excluded_in(str(slides)),
        frozen=frozen,
        slide_settings=slide_settings,
        pack_settings=pack_settings,
        config=config | {"tissue": slide_settings.tissue.to_dict()},
        patients_known=not cfg.slides,
    )


def with_presets(specs: list[SlideSpec], tissue: TissueSettings) -> list[SlideSpec]:
    """Return slides with the whole section of the tissue preset that their lines of the table name.

    Raises:
        ConfigError: no such preset, or values that its class refuses.
    """
    from argparse import ArgumentParser

    from data_prep.settings import plain
    from data_prep.tissue.mask import segmenter_of
    from zoomldm.composing import compose_jobs
    from zoomldm.config import Option
    from zoomldm.errors import ConfigError

    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd")
    folder = parser.parse_known_args()[0].config_dir
    sections = {}
    for name in sorted({spec.tissue["name"] for spec in specs if spec.tissue}):
        words = [f"tissue={name}", *(("--config-dir", folder) if folder else ())]
        try:
            sections[name] = plain(compose_jobs("prepare", words)[0].tissue)
            segmenter_of(Option("tissue", sections[name], tissue.segmenter.allow))  # which refuses what makes no sense
        except ConfigError as error:
            first = next(spec.name for spec in specs if spec.tissue and spec.tissue["name"] == name)
            raise ConfigError(f"slide {first}: tissue_preset {name!r} in the slide table: {error}") from error
    return [replace(spec, tissue=sections[spec.tissue["name"]]) if spec.tissue else spec for spec in specs]


def demo_slides(cfg: DictConfig) -> Path:
    """Return the folder of the demo's own slides, made where they are missing.

    Raises:
        ConfigError: another data set without slides.
    """
    from data_prep.demo.slides import make_demo_slides
    from zoomldm.errors import ConfigError

    maker = cfg.data.demo_slides
    if not maker:
        raise ConfigError(f"data={cfg.data.name}: which slides? give a folder, a glob or a CSV: slides=/path/to/slides")
    folder = Path(maker["folder"])
    make_demo_slides(folder, **{name: value for name, value in maker.items() if name != "folder"})
    return folder


def parse_part(part: str | None) -> tuple[int, int] | None:
    """Read ``3/16`` as (3, 16): the third of sixteen shares.

    Raises:
        ConfigError: anything else.
    """
    from zoomldm.errors import ConfigError

    if part is None:
        return None
    try:
        number, total = (int(word) for word in str(part).split("/"))
    except ValueError:
        number, total = 0, 0
    if not 1 <= number <= total:
        raise ConfigError(f"part={part}: expected a share such as 3/16, from 1/16 to 16/16")
    return number, total


def main() -> None:
    from zoomldm import cli

    cli.main("prepare", prepare)


if __name__ == "__main__":
    main()
