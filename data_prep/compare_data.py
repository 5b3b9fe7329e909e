"""Prepared synthetic slides beside real ones: ``python data_prep/compare_data.py synthetic=synthetic real=demo``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

if TYPE_CHECKING:
    from omegaconf import DictConfig

LEAST = 2
"""Patches of a magnification: with fewer there is nothing to compare."""


def check(cfg: DictConfig) -> None:
    """Refuse data sets that are not there, or not named.

    Raises:
        UserError: says which.
    """
    from zoomldm.commands.job import check_seed
    from zoomldm.errors import ConfigError

    for name in ("synthetic", "real"):
        folder_of(cfg, name)
    if cfg.num_per_magnification < LEAST:
        raise ConfigError(f"num_per_magnification={cfg.num_per_magnification}: expected {LEAST} or more")
    check_seed(cfg.seed)


def folder_of(cfg: DictConfig, name: str) -> Path:
    """Return the folder of a data set that is named, or that is a path.

    Raises:
        ConfigError: there is none, with the near match.
    """
    from omegaconf import OmegaConf

    from zoomldm.data.manifest import MANIFEST_NAME
    from zoomldm.errors import ConfigError, near_match

    data = Path(cfg.paths.data)
    said = "" if OmegaConf.is_missing(cfg, name) else cfg[name]
    for folder in (data / said, Path(said)):
        if said and (folder / MANIFEST_NAME).is_file():
            return folder
    known = sorted(path.parent.name for path in data.glob(f"*/{MANIFEST_NAME}"))
    raise ConfigError(
        f"{name}={said}: expected a prepared data set, by its name in {data} or by its folder;"
        f"{near_match(said, known)} prepared are: {', '.join(known) or 'none'}"
    )


def compare_data(cfg: DictConfig) -> None:
    from data_prep.report.comparison import check_alike, findings_of
    from data_prep.report.comparison_page import lines_of, write_comparison
    from data_prep.report.findings import found_in
    from zoomldm.commands.job import allowed, plain
    from zoomldm.data.manifest import Manifest
    from zoomldm.features.base import descriptors_of

    synthetic, real = (Manifest.load(folder_of(cfg, name)) for name in ("synthetic", "real"))
    check_alike(synthetic, real)
    descriptors = descriptors_of(plain(cfg.features), allow=allowed(cfg))
    told = {"num_per_magnification": cfg.num_per_magnification, "seed": cfg.seed}
    found = [found_in(manifest, descriptors, **told) for manifest in (synthetic, real)]
    findings = findings_of(*found, real)
    folder = Path(cfg.folder) if cfg.folder else Path(synthetic.root) / "qc" / f"beside-{real.name}"
    page = write_comparison(folder, findings, *found, names=(synthetic.name, real.name))
    print("\n".join(lines_of(findings)))
    print(f"look at {page}")


def main() -> None:
    from zoomldm import cli

    cli.main("compare_data", compare_data, check=check)


if __name__ == "__main__":
    main()
