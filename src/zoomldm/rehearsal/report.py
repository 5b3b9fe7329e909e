"""What the rehearsal found, as a table and a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zoomldm.rehearsal.extrapolation import Estimate

DONE, FAILED, LEFT_OUT = "done", "FAILED", "left out"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of a stage.

    Attributes:
        state: DONE, FAILED or LEFT_OUT.
        message: why not, else what is to be known.
        full: of the whole job on this machine, None where it is not estimated.
    """

    title: str
    command: str
    state: str
    message: str = ""
    elapsed_s: float = 0.0
    cpu_s: float = 0.0
    peak_bytes: int = 0
    full: Estimate | None = None

    def line(self) -> str:
        """Return the stage's line of the table."""
        took = f"{self.elapsed_s:6.0f} s {self.cpu_s:7.0f} s {self.peak_bytes / 1e9:6.1f} GB"
        full = f"  {_long(self.full.seconds)}: {self.full.of}" if self.full else ""
        return f"{self.title:<30} {self.state:<8} {took}{full}"


def head() -> str:
    """Return the table's first line."""
    return f"{'stage':<30} {'':<8} {'wall':>8} {'CPU':>9} {'peak':>9}  the full job on this machine (extrapolated)"


def table(results: Sequence[Result]) -> str:
    """Return every stage's line, and their sum."""
    total_s, cpu_s = (sum(getattr(one, name) for one in results) for name in ("elapsed_s", "cpu_s"))
    peak = max((one.peak_bytes for one in results), default=0)
    together = f"{'together':<30} {'':<8} {total_s:6.0f} s {cpu_s:7.0f} s {peak / 1e9:6.1f} GB"
    return "\n".join([head(), *(one.line() for one in results), together])


def verdict(results: Sequence[Result], notes: Sequence[str] = ()) -> tuple[bool, str]:
    """Say whether everything is ready, and in words what is to be mended.

    Args:
        notes: what a reader must know of a good end, for example that weights were random.
    """
    failed = [one for one in results if one.state == FAILED]
    left_out = [one for one in results if one.state == LEFT_OUT]
    if not failed and not left_out:
        return True, "\n".join(["READY", *notes])
    lines = ["NOT READY; mend these:"]
    for one in failed:
        lines += [f"- {one.title}: {one.command}", *(f"    {line}" for line in one.message.splitlines())]
    lines += [f"- {one.title}: left out, {one.message}" for one in left_out]
    return False, "\n".join([*lines, *notes])


def _long(seconds: float) -> str:
    hours = seconds / 3600
    for unit, size in (("years", 24 * 365), ("days", 24), ("h", 1)):
        if hours >= 2 * size or unit == "h":
            return f"{hours / size:,.1f} {unit}"
    return ""
