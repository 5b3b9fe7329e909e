"""Evaluations as runs keep them in their folders."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from zoomldm.errors import UserError
from zoomldm.evaluation.examples import Examples
from zoomldm.evaluation.older_formats import as_format_3, as_format_4
from zoomldm.evaluation.result import FORMAT_VERSION, KIND, Evaluation

FOLDER = "evaluation"
"""In a run's folder."""


def load_evaluation(path: str | os.PathLike) -> Evaluation:
    """Read an evaluation, also one of format 2 or 3.

    Raises:
        UserError: the file is missing, is none, or has another format version.
    """
    try:
        content = json.loads(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: no evaluation can be read there ({error}); run src/evaluate.py") from error
    version = content.pop("format_version", None) if isinstance(content, dict) else None
    if version not in (2, 3, FORMAT_VERSION) or content.pop("kind", None) != KIND:
        raise UserError(
            f"{path}: evaluation of format version {version}, this code reads {FORMAT_VERSION}, 3 and 2; "
            "run src/evaluate.py again"
        )
    content = as_format_3(content) if version == 2 else content
    return Evaluation.from_dict(as_format_4(content) if version < FORMAT_VERSION else content)


def stored_evaluations(run_folder: Path, distance_name: str | None = None) -> list[Evaluation]:
    """Return the evaluations in a run's folder, all or those of one distance."""
    folder = Path(run_folder) / FOLDER
    paths: Sequence[Path] = sorted(folder.glob("*.json")) if folder.is_dir() else []
    return [load_evaluation(path) for path in paths if distance_name in (None, path.stem)]


def stored_examples(run_folder: Path, distance_name: str) -> Examples:
    """Return the patches for pictures that an evaluation kept."""
    return Examples.load(Path(run_folder) / FOLDER / f"{distance_name}.npz")
