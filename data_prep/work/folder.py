"""The settings that a folder's slides were prepared with; work of other settings is never mixed."""

import json
from pathlib import Path
from typing import Any

from data_prep.magnitudes import differences
from data_prep.settings import SlideSettings
from data_prep.work.lock import locked
from data_prep.work.store import SLIDES_FOLDER
from zoomldm.data.manifest import MANIFEST_NAME
from zoomldm.errors import ConfigError, DataError
from zoomldm.files import remove_temporaries, write_json
from zoomldm.stored import read_json, stored_as

SETTINGS_NAME = "settings.json"


def read_settings(root: Path) -> dict[str, Any]:
    """Return the settings that a folder's slides were prepared with, empty in a new one.

    Older versions noted here those of packing as well, and not that profiles are applied.

    Raises:
        DataError: they cannot be read.
    """
    path = root / SLIDES_FOLDER / SETTINGS_NAME
    try:
        return {"icc": True} | stored_as(dict[str, Any], read_json(path))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}); it says with which settings the slides of this folder were prepared. "
            "Put it back from a copy, or choose another data.root"
        ) from error


def write_settings(folder: Path, settings: SlideSettings) -> None:
    write_json(folder / SETTINGS_NAME, _stored(settings))


def check_settings(root: Path, settings: SlideSettings, *, but: str | None = None) -> None:
    """Refuse a folder with the work of other settings, in keys other than ``but``; note these in a new one.

    Raises:
        ConfigError: names the differing keys.
    """
    old, new = read_settings(root), _stored(settings)
    if not old:
        if (root / MANIFEST_NAME).exists():
            raise ConfigError(f"{root}: holds shards, but not the work they were made from; choose another data.root")
        with locked(root / SLIDES_FOLDER / ".locks" / ".settings.lock", f"begins {root}"):
            remove_temporaries(root / SLIDES_FOLDER)
            write_settings(root / SLIDES_FOLDER, settings)
        return
    found = differences(
        {k: v for k, v in old.items() if k in new and k != but}, {k: v for k, v in new.items() if k != but}
    )
    if found:
        raise ConfigError(
            f"{root}: holds the work of another configuration ({'; '.join(found)}); choose another data.name or "
            "data.root, or delete that folder"
        )


def _stored(settings: SlideSettings) -> dict[str, Any]:
    return json.loads(json.dumps(settings.to_dict(), default=str))
