"""Slides to shards: ``python data_prep/prepare.py data=demo``; every key is in conf/prepare.yaml and conf/data."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]


def main() -> None:
    from data_prep.pipeline import prepare
    from zoomldm import cli

    cli.main("prepare", prepare)


if __name__ == "__main__":
    main()
