"""A trained run as a folder for users of diffusers, with a model card that names no slide, patient or place.

    python src/export.py run=NAME [folder=PATH]

The recipient loads it with ZoomLDMPipeline.from_pretrained (docs/export.md).
"""

from zoomldm.cli import main
from zoomldm.commands.export import check, run

if __name__ == "__main__":
    main("export", run, check=check)
