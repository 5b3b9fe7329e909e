"""Scripts of experiments/, which are no package."""

import importlib.util
import sys
from types import ModuleType

from zoomldm.config import PROJECT_ROOT


def experiment_script(path: str) -> ModuleType:
    """Import a script by its path below experiments/."""
    file = PROJECT_ROOT / "experiments" / path
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where a dataclass looks for the names of types
    spec.loader.exec_module(module)
    return module
