"""Errors that a user can mend, and words for messages; the command line prints them without a traceback."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Report something the user can mend: what was wrong, what was expected, and what to do."""


class ConfigError(UserError):
    """Report a configuration that does not exist, does not compose or makes no sense."""


class DataError(UserError):
    """Report missing, damaged or foreign data (slides, shards, manifest)."""


class WeightsError(UserError):
    """Report a weight file that is missing, damaged or made for another model."""


def near_match(name: str, known: Iterable[str]) -> str:
    """Return `` did you mean 'x'?`` for the known name closest to ``name``, or an empty string."""
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" did you mean {match[0]!r}?" if match else ""


def counted(number: int, noun: str) -> str:
    """Return ``1 slide``, ``2 slides``, ``1,136 slides``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
