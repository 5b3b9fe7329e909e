"""Options: sections of the configuration that name their class. Nothing here knows Hydra or OmegaConf.

Every YAML of a group carries ``_target_``, the class, and that class's own arguments. What is known at run time only
(the number of rungs, the width of the embeddings) comes as keywords at ``Option.make``.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import yaml

from zoomldm.errors import ConfigError, near_match

PROJECT_ROOT = Path(__file__).resolve().parents[2]
CONF = PROJECT_ROOT / "conf"
OWN_PACKAGES = ("zoomldm", "data_prep")
"""Whose classes any configuration may name; others need ``allow_code=[package]`` on the command line."""
RESERVED = ("_target_", "name")

T = TypeVar("T")


@dataclass(frozen=True)
class Option:
    """One option of a group, ready to be made; it pickles, so that a process that is started can make it.

    Attributes:
        group: where it stands in the configuration, for messages: ``cond``, ``features.also.stats``.
        section: ``_target_``, ``name`` and the class's own arguments, as plain values.
        allow: packages besides our own whose classes may be named: those that this command line allows. A stored
            configuration never brings its own.
    """

    group: str
    section: Mapping[str, Any]
    allow: tuple[str, ...] = field(default=())
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What is known of the run already and travels along; see ``given``."""

    @property
    def name(self) -> str:
        """The option's name (``film``), its class's where the section has none."""
        return str(self.section.get("name") or self.section.get("_target_", "?").rpartition(".")[2])

    @property
    def arguments(self) -> dict[str, Any]:
        """The class's own arguments, as configured."""
        return {key: value for key, value in self.section.items() if key not in RESERVED}

    def given(self, **facts: Any) -> Option:
        """Return the option with facts that its class may need, for whoever makes it elsewhere."""
        return replace(self, facts={**self.facts, **facts})

    def make(self, base: type[T], **facts: Any) -> T:
        """Build the object, which must be a ``base``.

        Args:
            facts: what is known at run time; those that the class doesn't take are left out, as are configured nulls
                that it doesn't take, and a configured value that is not null goes before a fact of the same name. An
                argument that is an option itself (a section with ``_target_``) is given to the class as an ``Option``.

        Raises:
            ConfigError: no such class, one that is not allowed or no ``base``, an argument that it doesn't take (with
                the near match), one that is missing, or values that the class refuses with a ``ValueError``.
        """
        facts = {**self.facts, **facts}
        made = self.target(base)
        known = parameters_of(made)
        configured = {
            key: self._nested(key, value)
            for key, value in self.arguments.items()
            if value is not None or (key in known and key not in facts)
        }
        self._refuse_unknown(made, configured)
        if "name" in known and "name" in self.section:
            configured["name"] = self.section["name"]
        arguments = {key: value for key, value in facts.items() if key in known} | configured
        missing = [key for key, required in known.items() if required and key not in arguments]
        if missing:
            raise ConfigError(f"{self.group}.{missing[0]}: {made.__name__} needs it and nothing says it; give a value")
        try:
            return made(**arguments)
        except ValueError as error:
            raise ConfigError(f"{self.group}={self.name}: {error}") from error

    def check(self) -> None:
        """Refuse a class that isn't there or isn't allowed, and arguments that it doesn't take; nothing is made.

        Raises:
            ConfigError: see ``make``.
        """
        self._refuse_unknown(self.target(object), [key for key, value in self.arguments.items() if value is not None])

    def _refuse_unknown(self, made: type, arguments: Iterable[str]) -> None:
        known = parameters_of(made)
        for key in arguments:
            if key not in known:
                raise ConfigError(
                    f"{self.group}.{key}: {made.__name__} takes no such argument;{near_match(key, known)} it takes "
                    f"{', '.join(known) or 'none'}"
                )

    def _nested(self, key: str, value: Any) -> Any:
        is_option = isinstance(value, Mapping) and "_target_" in value
        return Option(f"{self.group}.{key}", value, self.allow) if is_option else value

    def target(self, base: type[T]) -> type[T]:
        """Import the class that ``_target_`` names.

        Raises:
            ConfigError: there is none, it is not allowed, or it is no ``base``.
        """
        path = str(self.section.get("_target_") or "")
        module_name, _, class_name = path.rpartition(".")
        if not module_name:
            raise ConfigError(f"{self.group}: no _target_, the class that makes it (package.module.Class)")
        package = module_name.partition(".")[0]
        if package not in (*OWN_PACKAGES, *self.allow):
            raise ConfigError(
                f"{self.group}._target_={path}: code outside {' and '.join(OWN_PACKAGES)}; if you trust it, add "
                f"allow_code=[{package}] to the command line"
            )
        found = getattr(_imported(module_name, path, self.group, own=package in OWN_PACKAGES), class_name, None)
        if not inspect.isclass(found) or found.__module__.partition(".")[0] != package:
            # A name that a module of ours merely imports (shutil.rmtree) is not a class of ours.
            raise ConfigError(f"{self.group}._target_={path}: {module_name} defines no class {class_name}")
        if not issubclass(found, base):
            raise ConfigError(f"{self.group}._target_={path}: is no {base.__name__}, which {self.group} must be")
        return found


def options_of(group: str, sections: Mapping[str, Mapping[str, Any]], allow: Sequence[str] = ()) -> dict[str, Option]:
    """Return the options of a group of which several are chosen (``rows=[halves,oracle]``), by name, in their order."""
    return {
        name: Option(f"{group}.{name}", {"name": name, **section}, tuple(allow))
        for name, section in sections.items()
        if section is not None
    }


def option_of(group: str, name: str, **changed: Any) -> Option:
    """Return an option of ``conf/``, some of its values changed.

    Raises:
        ConfigError: there is no such option.
    """
    return Option(group, section_of(group, name) | changed)


def section_of(group: str, name: str) -> dict[str, Any]:
    """Return an option's section as its YAML has it, with those that it builds on; references are not resolved.

    Raises:
        ConfigError: there is no such option.
    """
    path = CONF / group / f"{name}.yaml"
    if not path.is_file():
        known = sorted(one.stem for one in path.parent.glob("*.yaml"))
        raise ConfigError(f"{group}={name}: there is no such option;{near_match(name, known)}")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    entries = content.pop("defaults", [])
    section: dict[str, Any] = {}
    for entry in entries if "_self_" in entries else [*entries, "_self_"]:
        if entry == "_self_":
            section |= content
        else:
            _place(section, group, entry)
    return section


def _place(section: dict[str, Any], group: str, entry: str | Mapping[str, str]) -> None:
    """Put another option into a section, where an entry of a defaults list says: ``stats@also.stats``."""
    if isinstance(entry, Mapping):
        ((where, name),) = entry.items()
        group, _, package = where.lstrip("/").partition("@")
    else:
        name, _, package = entry.partition("@")
    for key in package.split(".") if package else ():
        section = section.setdefault(key, {})
    section |= section_of(group, name)


def parameters_of(made: type) -> dict[str, bool]:
    """Return the names of a class's arguments and whether each is required; ``**`` stands for those of its base."""
    found: dict[str, bool] = {}
    for one in made.__mro__:
        if "__init__" not in vars(one) or one is object:
            continue
        parameters = list(inspect.signature(one.__init__).parameters.values())[1:]
        for parameter in parameters:
            if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD):
                found.setdefault(parameter.name, parameter.default is parameter.empty)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            break
    return found


def _imported(module_name: str, path: str, group: str, *, own: bool) -> Any:
    """Import a module; one of the user's also from the folder that the command was typed in."""
    here = str(Path.cwd())
    if not own and here not in sys.path:
        sys.path.append(here)
    try:
        return importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(
            f"{group}._target_={path}: cannot be imported ({error}); it must lie in the working directory or on "
            "PYTHONPATH"
        ) from error
