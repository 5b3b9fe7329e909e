"""Check shards against the manifest: ``python data_prep/verify.py data=demo``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

if TYPE_CHECKING:
    from omegaconf import DictConfig


def verify_data(cfg: DictConfig) -> None:
    from data_prep.pack.exchange import finish_exchange
    from data_prep.prepare import preparation_of
    from data_prep.repair import repair, set_aside
    from data_prep.report.verification import verify
    from zoomldm.data.manifest import Manifest
    from zoomldm.errors import DataError

    finish_exchange(Path(cfg.data.root))
    manifest = Manifest.load(cfg.data.root)
    faults = verify(manifest)
    for fault in faults:
        print(f"wrong: {fault}")
    if faults and cfg.repair:
        for line in repair(preparation_of(cfg), manifest):
            print(f"repair: {line}")
        faults = verify(manifest)
    for line in set_aside(manifest, faults, delete=cfg.repair):
        print(f"aside: {line}")
    if faults:
        raise DataError(
            f"{cfg.data.root}: {len(faults)} faults; run verify.py with repair=true and the words that prepare.py had "
            "(encoder=, slides=): it makes lost and damaged shards again, with the bytes that they had"
        )
    samples = sum(shard.num_samples for shard in manifest.shards)
    columns = ", ".join(manifest.columns)
    print(f"{cfg.data.root}: {len(manifest.shards)} shards, {samples:,} samples, columns {columns}: all right")


def main() -> None:
    from zoomldm import cli

    cli.main("verify", verify_data)


if __name__ == "__main__":
    main()
