"""Jobs from a command line: composed by Hydra and checked, with the near match for what does not exist.

Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoomldm.commands.known_keys import RENAMED, check_type, explained, nearest, taken_elsewhere
from zoomldm.config import CONF
from zoomldm.errors import ConfigError, near_match
from zoomldm.flags import flags_of, with_seeds

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

SEARCH = "hydra.searchpath="


@dataclass(frozen=True)
class Job:
    """One job of a command: its composed configuration (with Hydra's own section) and its overrides as typed."""

    cfg: DictConfig
    words: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """Every job that a command line asks for.

    Attributes:
        sweep_folder: None where it is one job and no sweep.
        is_search: a sweeper chooses the jobs as it goes; `jobs` is one without what it varies, to be checked.
    """

    jobs: tuple[Job, ...]
    sweep_folder: Path | None
    is_search: bool = False


def planned(config_name: str, argv: Sequence[str]) -> Plan:
    """Return every job that ``argv`` asks for (one, or a sweep's product), composed and checked.

    Raises:
        ConfigError: an option, key or value that does not exist, with the nearest that does.
    """
    from hydra import initialize_config_dir
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.global_hydra import GlobalHydra

    from zoomldm.commands.register import register

    register()
    flags = flags_of(with_seeds(argv) if config_name == "train" else argv)
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        composer = Composer(config_name, flags.config_dir, flags.overrides)
        overrides = _parsed(flags.overrides)
        base = composer.base(overrides)
        _check_keys(base, composer, overrides)
        if not (flags.multirun or (base.hydra.mode and base.hydra.mode.name == "MULTIRUN")):
            for override in overrides:
                if override.is_sweep_override():
                    word = override.input_line
                    raise ConfigError(f"{word}: several values are a sweep; add -m (python src/train.py -m {word})")
            return Plan((Job(composer.compose(flags.overrides), tuple(flags.overrides)),), None)
        if not base.hydra.sweeper._target_.endswith("BasicSweeper"):
            words = [override.input_line for override in overrides if not override.is_sweep_override()]
            job = Job(composer.compose(words), tuple(words))
            return Plan((job,), Path(job.cfg.hydra.sweep.dir), is_search=True)
        own = [f"{key}={value}" for key, value in (base.hydra.sweeper.get("params") or {}).items()]
        (combinations,) = BasicSweeper.split_arguments([*_parsed(own), *overrides], None)
        jobs = tuple(Job(composer.compose(words), tuple(words)) for words in combinations)
        return Plan(jobs, Path(jobs[0].cfg.hydra.sweep.dir))


def compose_jobs(config_name: str, argv: Sequence[str]) -> list[DictConfig]:
    """Return the configuration of every job that ``argv`` asks for; see ``planned``."""
    return [without_hydra(job.cfg) for job in planned(config_name, argv).jobs]


class Composer:
    """Composes one primary configuration, and knows which groups and options there are for it.

    Args:
        folder: of the user's own groups (--config-dir), searched after ``conf/``.
        words: of the command line, which may say where to search, too: so a job hands its folder to its processes.
    """

    def __init__(self, config_name: str, folder: str | None, words: Sequence[str]) -> None:
        from hydra.core.global_hydra import GlobalHydra

        self.config_name = config_name
        self.loader = GlobalHydra.instance().config_loader()
        self.search = [word for word in words if word.startswith(SEARCH)]
        if folder:
            places = [*self.compose([]).hydra.searchpath, f"file://{Path(folder).resolve()}"]
            self.search = [f"{SEARCH}[{','.join(repr(str(place)) for place in places)}]"]

    def compose(self, words: Sequence[str]) -> DictConfig:
        """Compose with these overrides.

        Raises:
            ConfigError: they, or a file of the configuration, do not fit; the message says what.
        """
        from hydra import compose
        from hydra.errors import HydraException
        from omegaconf.errors import OmegaConfBaseException

        try:
            others = (word for word in words if not word.startswith(SEARCH))
            return compose(self.config_name, overrides=[*self.search, *others], return_hydra_config=True)
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(explained(error, words or [self.config_name], self.config_name)) from error

    def base(self, overrides: Sequence[Override]) -> DictConfig:
        """Compose with the first choice of each group alone: the keys that the other overrides may change."""
        words = []
        for override in overrides:
            group = override.get_key_element().lstrip("+~").split("@")[0]
            if options := self.options(group):
                _check_choices(group, options, override)
                words.append(next(_values(override)))
            elif override.key_or_group.startswith("hydra."):
                words.append(override.input_line)
        return self.compose(words)

    def options(self, group: str) -> list[str]:
        """Return the options of a group, [] where there is no such group."""
        from hydra.core.object_type import ObjectType

        return self.loader.get_group_options(group, ObjectType.CONFIG, self.config_name, self.search)

    def groups(self) -> list[str]:
        """Return the groups of ``conf/``."""
        return [name for name in self.loader.list_groups("") if self.options(name)]


def _parsed(words: Sequence[str]) -> list[Override]:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    try:
        return OverridesParser.create().parse_overrides(list(words))
    except OverrideParseException as error:
        key, equals, value = str(error.override).partition("=")
        quoted = f"; a value that holds = , or spaces is quoted twice: \"{key}='{value}'\"" if equals else ""
        raise ConfigError(f"{error.override}: cannot be read as key=value{quoted}") from error


def _values(override: Override) -> Iterator[str]:
    """Yield the override once for each of its values (one, unless it is a sweep)."""
    if override.is_sweep_override():
        yield from (f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator())
    else:
        yield override.input_line


def _check_choices(group: str, options: list[str], override: Override) -> None:
    for word in _values(override):
        for choice in word.partition("=")[2].strip("[]").split(","):
            choice = choice.strip(" '\"")
            if choice not in ("", "null", *options):
                hint = near_match(choice, options)
                raise ConfigError(f"{group}={choice}: no such option;{hint} expected one of {', '.join(options)}")


def _check_keys(base: DictConfig, composer: Composer, overrides: Sequence[Override]) -> None:
    """Refuse keys that the composed configuration has not, also those smuggled in with ``+`` or ``++``."""
    from omegaconf import OmegaConf

    values = dict(_flat(OmegaConf.to_container(base, resolve=False)))
    for override in overrides:
        key = override.key_or_group
        elsewhere = "" if key in values else taken_elsewhere(key, composer.config_name)
        if key in RENAMED and key not in values and (not elsewhere or RENAMED[key].partition(" ")[0] in values):
            raise ConfigError(f"{key}: renamed; it is {RENAMED[key]} now")
        if key.startswith("hydra.") or override.is_delete() or composer.options(key.split("@")[0]):
            continue
        if f"{key.rpartition('.')[0]}._target_" in values and override.is_add():
            continue  # an argument that the option's file leaves to its class, which knows what it takes
        if key not in values:
            visible = [k for k in values if not k.startswith("hydra")]
            if elsewhere:
                raise ConfigError(f"{override.input_line}: {elsewhere}")
            raise ConfigError(f"{key}: no such key or group;{nearest(key, [*visible, *composer.groups()])}")
        if not override.is_sweep_override():
            check_type(key, values[key], override.value())


def without_hydra(cfg: DictConfig) -> DictConfig:
    """Return the configuration without Hydra's own section, of which some values exist only while a job runs."""
    from omegaconf import open_dict

    cfg = cfg.copy()
    with open_dict(cfg):
        cfg.pop("hydra", None)
    return cfg


def _flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, child in node.items():
        yield f"{prefix}{name}", child
        if isinstance(child, Mapping):
            yield from _flat(child, f"{prefix}{name}.")
