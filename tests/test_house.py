"""The laws of the house that a test can check; the direction of imports is checked by import-linter (make lint)."""

import re
from collections import Counter

import pytest
import yaml

from zoomldm.config import CONF, PROJECT_ROOT

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
