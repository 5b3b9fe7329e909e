"""Add the latent column: ``python data_prep/latents.py data=demo autoencoder.run=autoencoder_tiny-demo``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

if TYPE_CHECKING:
    from omegaconf import DictConfig


def make_latents(cfg: DictConfig) -> None:
    """Load the manifest first, so that a missing data set is said at once, then the autoencoder."""
    from data_prep.pack.exchange import finish_exchange
    from zoomldm.data.manifest import Manifest

    finish_exchange(Path(cfg.data.root))
    manifest = Manifest.load(cfg.data.root)
    import torch

    from data_prep.columns.latent import LatentMaker, add_latents, batch_size_for, encoder_of
    from data_prep.columns.variants import add_variants
    from zoomldm.stages.loaded import load_autoencoder

    loaded = load_autoencoder(
        cfg.paths.runs,
        run=cfg.autoencoder.run,
        weights=cfg.autoencoder.weights,
        allow=tuple(cfg.allow_code),
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    maker = LatentMaker(
        encode=encoder_of(loaded.module, device),
        sha256=loaded.sha256,
        source=loaded.run_name,
        is_original=loaded.is_original,
        batch_size=batch_size_for(manifest.ladder.patch_px, device),
    )
    manifest = add_latents(manifest, maker, repack=cfg.repack)
    if cfg.variants:
        add_variants(manifest, maker.encode, list(cfg.variants))


def main() -> None:
    from zoomldm import cli

    cli.main("latents", make_latents)


if __name__ == "__main__":
    main()
