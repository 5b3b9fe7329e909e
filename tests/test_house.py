"""The laws of the house that a test can check; the direction of imports is checked by import-linter (make lint)."""

import ast
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

MODULE_LINES, FUNCTION_LINES = 250, 40
LONGER = {
    "src/zoomldm/commands/schemas.py": "declarations alone, a field a line, as the files of conf/ have them",
    "fit": "the algorithm, read from the top to the end",
    "build_unet": "its arguments are the sizes of diffusers' class, one a line",
    "HubEncoder.__init__": "its arguments are the keys of the YAML, one a line",
    "Run.open": "a third of it is run.json as it begins, a fact a line",
    "_state": "one record of a slide, a fact a line",
    "unet_rows": "a table: names of tensors here and there",
    "infer_unet": "a table: where each size is read off",
}
"""What is longer than the house allows, and the reason."""


def too_long(path):
    """Yield what is too long in a module; a function's docstring is not counted."""
    source = path.read_text(encoding="utf-8")
    if len(source.splitlines()) > MODULE_LINES:
        yield path.relative_to(PROJECT_ROOT).as_posix()
    within = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef):
            within |= dict.fromkeys((one for one in node.body if isinstance(one, ast.FunctionDef)), node.name)
        if isinstance(node, ast.FunctionDef):
            first = node.body[0]
            described = first.end_lineno - first.lineno + 1 if ast.get_docstring(node) else 0
            if node.end_lineno - node.lineno + 1 - described > FUNCTION_LINES:
                yield f"{within[node]}.{node.name}" if node in within else node.name


def test_nothing_is_longer_than_the_house_allows():
    paths = [path for folder in ("src", "data_prep") for path in (PROJECT_ROOT / folder).rglob("*.py")]
    found = {name for path in paths for name in too_long(path)}
    assert not found - set(LONGER), "split it, or give the reason here"


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
