"""The laws of the house that a test can check; the direction of imports is checked by import-linter (make lint)."""

import re
from collections import Counter
from dataclasses import MISSING, fields

import pytest
import yaml

from zoomldm.config import CONF, PROJECT_ROOT
from zoomldm.ladder import Ladder
from zoomldm.launch.settings import FabricSettings
from zoomldm.training.settings import LoopSettings, OptimSettings

BELOW = [
    path
    for folder in ("src/zoomldm", "data_prep")
    for path in sorted((PROJECT_ROOT / folder).rglob("*.py"))
    if "commands" not in path.parts
]
DOORS = {f"src/zoomldm/{name}.py" for name in ("cli", "composing")} | {
    f"data_prep/{name}.py" for name in ("prepare", "verify", "latents", "settings")
}


@pytest.mark.parametrize("path", BELOW, ids=lambda p: p.relative_to(PROJECT_ROOT).as_posix())
def test_no_configuration_below_the_door(path):
    if path.relative_to(PROJECT_ROOT).as_posix() in DOORS:
        pytest.skip("a door")
    assert not re.search(r"\bcfg\b\s*:", path.read_text(encoding="utf-8"))


def test_what_an_option_is_called_stands_in_its_file_alone():
    targets = [
        yaml.safe_load(path.read_text())["_target_"]
        for path in CONF.rglob("*.yaml")
        if "\n_target_:" in f"\n{path.read_text()}"
    ]
    source = "\n".join(path.read_text(encoding="utf-8") for path in BELOW)
    listed = [target for target, _ in Counter(targets).items() if f'"{target}"' in source]
    assert targets
    listed.remove("data_prep.tissue.chroma.ChromaSegmenter")  # slides of before were read by it and don't name it
    assert not listed, "a class that a YAML names is named in code as well"


@pytest.mark.parametrize(
    ("kind", "files", "section"),
    [
        (FabricSettings, "fabric/*.yaml", None),
        (OptimSettings, "optim/*.yaml", None),
        (LoopSettings, "model/*.yaml", "train"),
        (Ladder, "data/*.yaml", "ladder"),
    ],
)
def test_a_default_stands_in_one_place(kind, files, section):
    defaults = {one.name: one.default for one in fields(kind) if one.default is not MISSING}
    said = set()
    for path in CONF.glob(files):
        content = yaml.safe_load(path.read_text())
        values = (content.get(section) or {}) if section else content
        said |= set(values)
        repeated = {name for name, value in values.items() if name in defaults and defaults[name] == value}
        assert not repeated, f"{path.name} says what {kind.__name__} says"
    assert {one.name for one in fields(kind)} == set(defaults) | said - {"defaults"}, "a setting that nothing sets"
