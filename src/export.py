"""A trained run as a folder for users of diffusers, with a model card that names no slide, patient or place.

    python src/export.py run=NAME [folder=PATH]

The recipient loads it with ZoomLDMPipeline.from_pretrained (docs/export.md).
"""

from zoomldm.cli import main


def check(cfg) -> None:
    from zoomldm.runs.run import find_run

    find_run(cfg.paths.runs, "zoomldm", cfg.run)


def run(cfg) -> None:
    from zoomldm.export.folder import export

    export(cfg)


if __name__ == "__main__":
    main("export", run, check=check)
