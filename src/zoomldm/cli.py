"""The command line of every entry: Hydra underneath, people's mistakes answered at once and without a traceback.

Before Hydra starts, every override is checked against the groups and keys that exist (near match in the answer), each
job of a sweep is composed, and the entry's own ``check`` may refuse it. Nothing here imports torch.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from zoomldm.errors import ConfigError, UserError, near_match
from zoomldm.launch.processes import is_first_process

PROJECT_ROOT = Path(__file__).resolve().parents[2]
CONF = PROJECT_ROOT / "conf"
EXIT_USER_ERROR = 2
FLAGS_WITH_A_VALUE = frozenset({"--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn"}) | {
    "--config-dir", "-cd", "--experimental-rerun",
}  # fmt: skip
SHOWING_FLAGS = frozenset({"--cfg", "-c", "--resolve"})
INSPECTING_FLAGS = frozenset({"--version", "-sc", "--shell-completion", "--hydra-help", "--help", "-h", "--info", "-i"})


@dataclass(frozen=True)
class Job:
    """One job of a command: its composed configuration and its overrides as typed."""

    cfg: Any
    words: tuple[str, ...]


def main(
    config_name: str,
    run: Callable,
    *,
    check: Callable | None = None,
    before: Callable | None = None,
    after_sweep: Callable | None = None,
) -> None:
    """Compose ``conf/<config_name>.yaml`` with the command line's overrides and call ``run(cfg)`` for each job.

    Args:
        config_name: the primary configuration.
        run: does the work; takes the composed ``DictConfig``.
        check: raises ``ConfigError`` for a configuration that makes no sense; called for every job before the first.
        before: called once, in the parent process, with all jobs when they have passed.
        after_sweep: called at the end of a sweep, also when a job failed, with all jobs and the sweep's folder.
    """
    os.environ.setdefault("PROJECT_ROOT", str(PROJECT_ROOT))
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # on a shared machine a waiting OpenMP thread leaves the core
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that exceptions reach us and not Hydra's printer
    flags = {word for word in sys.argv[1:] if word.startswith("-")}
    with user_errors():
        jobs, sweep_folder = [], None
        if flags & {"--cfg", "-c"} and flags & {"-m", "--multirun"}:
            raise ConfigError("--cfg shows one job, -m is a sweep of several: leave out -m and give one value of each")
        if is_first_process() and not flags & INSPECTING_FLAGS:
            jobs, is_sweep = plan_jobs(config_name, sys.argv[1:])
            for job in jobs if check else []:
                check(job.cfg)
            if before is not None and not flags & SHOWING_FLAGS:
                before(jobs)
            if is_sweep and after_sweep is not None and not flags & SHOWING_FLAGS:
                sweep_folder = Path(jobs[0].cfg.paths.runs) / "sweeps" / time.strftime("%Y-%m-%d_%H-%M-%S")
                sys.argv.append(f"hydra.sweep.dir='{sweep_folder}'")
        import hydra

        try:
            with without_hydras_line():
                hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(run)()
        finally:
            if sweep_folder is not None:
                after_sweep(jobs, sweep_folder)


class user_errors:  # noqa: N801 - reads as a statement
    """Print a ``UserError`` as its message and exit with 2; other exceptions keep their traceback."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind, error, traceback) -> None:
        if isinstance(error, UserError):
            print(f"error: {error}", file=sys.stderr)
            sys.exit(EXIT_USER_ERROR)
        if isinstance(error, KeyboardInterrupt):
            print("interrupted; the same command goes on where it stopped", file=sys.stderr)
            sys.exit(130)


@contextmanager
def without_hydras_line() -> Iterator[None]:
    """Leave out what Hydra writes before it raises a job's error again; the error's own message comes afterwards."""
    stream = sys.stderr

    class Filtered:
        def write(self, text: str) -> int:
            return len(text) if text.startswith("Error executing job with overrides") else stream.write(text)

        def __getattr__(self, name: str) -> Any:
            return getattr(stream, name)

    sys.stderr = Filtered()
    try:
        yield
    finally:
        sys.stderr = stream


def compose_jobs(config_name: str, argv: Sequence[str]) -> list:
    """Return the configuration of every job that ``argv`` asks for; see ``plan_jobs``."""
    return [job.cfg for job in plan_jobs(config_name, argv)[0]]


def plan_jobs(config_name: str, argv: Sequence[str]) -> tuple[list[Job], bool]:
    """Return every job that ``argv`` asks for (one, or a sweep's product), fully checked, and whether it is a sweep.

    Raises:
        ConfigError: an option, key or value that does not exist, with the nearest that does.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    words = _overrides_among(argv)
    multirun = bool({"-m", "--multirun"} & set(argv))
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        loader = GlobalHydra.instance().config_loader()
        overrides = _parse(words)
        groups = [o for o in overrides if _is_group(loader, config_name, o.get_key_element())]
        for override in groups:
            _check_options(loader, config_name, override)
        for_hydra = [o.input_line for o in overrides if o.key_or_group.startswith("hydra.") and o not in groups]
        base = _compose(compose, config_name, [*(_job_strings(o)[0] for o in groups), *for_hydra])
        sweep_params = dict(base.hydra.sweeper.get("params") or {})
        multirun = multirun or str(base.hydra.mode) == "RunMode.MULTIRUN"
        _check_keys(base, loader, config_name, [o for o in overrides if o not in groups])
        if not multirun and any(o.is_sweep_override() for o in overrides):
            swept = next(o.input_line for o in overrides if o.is_sweep_override())
            raise ConfigError(f"{swept}: several values are a sweep; add -m (python src/train.py -m {swept})")
        typed = {o.key_or_group for o in overrides}
        swept_here = _parse([f"{key}={value}" for key, value in sweep_params.items() if key not in typed])
        axes = [_job_strings(o) for o in [*overrides, *(swept_here if multirun else [])]]
        all_words = list(product(*axes))
        jobs = [Job(_without_hydra(_compose(compose, config_name, list(words))), words) for words in all_words]
        return jobs, multirun


def _overrides_among(argv: Sequence[str]) -> list[str]:
    """Leave out flags and what belongs to them (``--cfg job``, ``-p optim``)."""
    words, flag = [], ""
    for word in argv:
        if not word.startswith("-") and flag not in FLAGS_WITH_A_VALUE:
            words.append(word)
        flag = word
    return words


def _parse(words: Sequence[str]) -> list:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    try:
        return OverridesParser.create().parse_overrides(list(words))
    except OverrideParseException as error:
        raise ConfigError(
            f"{error.override}: cannot be read as key=value; quote values that hold spaces or commas"
        ) from error


def _job_strings(override) -> list[str]:
    """Return the override once for each of its values (one, unless it is a sweep)."""
    if override.is_sweep_override():
        return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
    return [override.input_line]


def _compose(compose: Callable, config_name: str, words: list[str]):
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        return compose(config_name, overrides=words, return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{' '.join(words) or config_name}: does not compose: {reason}") from error


def _without_hydra(cfg):
    """Drop Hydra's own section, of which some values exist only while a job runs."""
    from omegaconf import open_dict

    with open_dict(cfg):
        cfg.pop("hydra", None)
    return cfg


def _group_names(loader, config_name: str) -> list[str]:
    return loader.list_groups("")


def _options(loader, config_name: str, group: str) -> list[str]:
    from hydra.core.object_type import ObjectType

    return loader.get_group_options(group, ObjectType.CONFIG, config_name, [])


def _is_group(loader, config_name: str, key: str) -> bool:
    return bool(_options(loader, config_name, key.lstrip("+~").split("@")[0]))


def _check_options(loader, config_name: str, override) -> None:
    group = override.get_key_element().lstrip("+~").split("@")[0]
    options = _options(loader, config_name, group)
    for word in _job_strings(override):
        choice = word.split("=", 1)[1].strip("'\"") if "=" in word else None
        if choice not in (None, "null", *options) and not isinstance(override.value(), list):
            hint = near_match(str(choice), options)
            raise ConfigError(f"{group}={choice}: no such option;{hint} expected one of {', '.join(options)}")


def _check_keys(base, loader, config_name: str, overrides: list) -> None:
    """Refuse keys that the composed configuration has not, also those smuggled in with ``+`` or ``++``."""
    from omegaconf import OmegaConf

    groups = [name for name in _group_names(loader, config_name) if _options(loader, config_name, name)]
    known = list(_flat_keys(OmegaConf.to_container(base, resolve=False)))
    free = [key for key in known if key.endswith((".labels", ".options", "thresholds"))]
    for override in overrides:
        key = override.key_or_group
        if key.startswith("hydra.") or override.is_delete() or any(key.startswith(f"{f}.") for f in free):
            continue
        if key not in known:
            visible = [k for k in known if not k.startswith("hydra")]
            raise ConfigError(f"{key}: no such key or group;{_nearest_key(key, [*visible, *groups])}")
        _check_type(key, OmegaConf.select(base, key, throw_on_missing=False), override)


def _nearest_key(key: str, known: list[str]) -> str:
    """Prefer a key with the same parent or the same last part to one that is merely spelt alike."""
    same_tail = [k for k in known if k.split(".")[-1] == key.split(".")[-1]]
    hint = near_match(key, known)
    if not hint and same_tail:
        hint = f" did you mean {same_tail[0]!r}?"
    return hint or " see the keys with --cfg job"


def _check_type(key: str, default: Any, override) -> None:
    """Refuse a word where the default is a number or a switch; ``null`` is always allowed."""
    if override.is_sweep_override() or default is None:
        return
    value = override.value()
    if value is None or not isinstance(value, (str, int, float, bool)):
        return
    text = str(value)
    if isinstance(default, bool) and not isinstance(value, bool):
        raise ConfigError(f"{key}={text}: expected true or false")
    if isinstance(default, (int, float)) and not isinstance(default, bool):
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number and not text.startswith("${"):
            raise ConfigError(f"{key}={text}: expected a number (the default is {default})")


def _flat_keys(node: Any, prefix: str = ""):
    if isinstance(node, dict):
        for name, child in node.items():
            path = f"{prefix}.{name}" if prefix else str(name)
            yield path
            yield from _flat_keys(child, path)
