"""The laws of the house that a test can check; the direction of imports is checked by import-linter (make lint)."""

import ast
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from importlib import import_module
from typing import Any, get_args, get_type_hints

import pytest
import yaml

from data_prep.fold.regions import RegionSettings
from data_prep.settings import PackSettings, SlideSettings
from data_prep.tissue.mask import TissueSettings
from zoomldm.commands.schemas import ENTRIES, Section
from zoomldm.config import CONF, PROJECT_ROOT, parameters_of, section_of
from zoomldm.evaluation.bench import Plan
from zoomldm.sampling.settings import Sampling

BELOW = [
    path
    for folder in ("src/zoomldm", "data_prep")
    for path in sorted((PROJECT_ROOT / folder).rglob("*.py"))
    if "commands" not in path.parts
]
DOORS = {f"src/zoomldm/{name}.py" for name in ("cli", "composing")} | {
    f"data_prep/{name}.py" for name in ("prepare", "verify", "latents", "compare_data", "settings")
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


@pytest.mark.parametrize("folder", ["src", "data_prep", "data_prep/demo", "benchmarks"])
def test_no_module_beside_a_script_is_called_as_one_of_pythons_own(folder):
    """Python looks for modules in a script's folder first: there, `numbers.py` is everybody's `numbers`."""
    names = {path.stem for path in (PROJECT_ROOT / folder).iterdir() if path.suffix == ".py" or path.is_dir()}
    assert not names & sys.stdlib_module_names


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


def said_by(entry: str) -> set[str]:
    """Return the keys that the YAML of an entry or of any option of any group gives, dotted, with those above them."""
    said = set()
    for path in CONF.rglob("*.yaml"):
        text, group = path.read_text(encoding="utf-8"), path.parent.relative_to(CONF).as_posix()
        if group.startswith("hydra/") or (group == "." and path.stem in ENTRIES.keys() - {entry}):
            continue
        said |= set(_dotted(yaml.safe_load(text), "" if group == "." or "@package _global_" in text else f"{group}."))
    return said


def _dotted(content: Any, above: str) -> Iterator[str]:
    if isinstance(content, dict):
        for key, value in content.items():
            yield f"{above}{key}"
            yield from _dotted(value, f"{above}{key}.")


def settings_of(kind: type, above: str = "") -> Iterator[tuple[str, bool]]:
    """Yield every setting of a schema, dotted, and whether it has a default; free sections are left out."""
    for one in fields(kind):
        hint, here = get_type_hints(kind)[one.name], f"{above}{one.name}"
        nested = [inner for inner in (hint, *get_args(hint)) if is_dataclass(inner)]
        for inner in nested:
            yield from settings_of(inner, f"{here}.")
        if not nested and hint is not Section:
            yield here, not (one.default is MISSING and one.default_factory is MISSING)


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_setting_has_its_default_in_conf_or_in_its_dataclass(entry):
    said = said_by(entry)
    for setting, has_default in settings_of(ENTRIES[entry]):
        assert (setting in said) != has_default, f"{setting}: given twice, or by nothing"


@pytest.mark.parametrize(
    ("kind", "own"),
    [(kind, set()) for kind in (SlideSettings, PackSettings, TissueSettings, RegionSettings, Sampling)]
    + [(Plan, {"all_training_up_to", "num_examples"})],
)
def test_settings_that_conf_fills_have_no_default(kind, own):
    assert own == {one.name for one in fields(kind) if (one.default, one.default_factory) != (MISSING, MISSING)}


def arguments_of_options() -> dict[str, set[str]]:
    """Return, by ``_target_``, the arguments that conf/ gives to a class."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in CONF.rglob("*.yaml"):
        group = path.parent.name
        with_bases = group not in ("conf", "data", "model", "launcher", "sweeper")
        content = section_of(group, path.stem) if with_bases else yaml.safe_load(path.read_text(encoding="utf-8"))
        for section in _options_in(content):
            found[section["_target_"]] |= section.keys()
    return found


def _options_in(content: Any) -> Iterator[dict[str, Any]]:
    if isinstance(content, dict):
        if "_target_" in content:
            yield content
        for value in content.values():
            yield from _options_in(value)


ARGUMENTS = arguments_of_options()
OF_MODELS = {
    key for path in CONF.glob("model/*.yaml") for key in _dotted(yaml.safe_load(path.read_text())["model"], "")
}
"""What a model gives to its networks: ``width``, ``tokens.widths``."""


@pytest.mark.parametrize("target", sorted(ARGUMENTS))
def test_an_argument_that_conf_gives_has_no_default_in_its_class(target):
    module, _, name = target.rpartition(".")
    optional = {key for key, required in parameters_of(getattr(import_module(module), name)).items() if not required}
    given = ARGUMENTS[target] | {key.rpartition(".")[2] for key in OF_MODELS}
    assert not optional & given
