"""Run a command as a user would, and measure it with all processes that it starts: seconds, CPU seconds, memory."""

from __future__ import annotations

import os
import resource
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

INTERVAL_S = 0.5


@dataclass(frozen=True)
class Measured:
    """What a command took.

    Attributes:
        code: its exit status.
        elapsed_s, cpu_s: wall clock, and processors' time of it and its children.
        peak_bytes: largest memory of it and its children together at one moment; pages that they share count once.
        log: the file with what it printed.
    """

    code: int
    elapsed_s: float
    cpu_s: float
    peak_bytes: int
    log: Path

    def message(self, most: int = 12) -> str:
        """Return what it said last: from its own ``error:`` on, else its last lines."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").strip().splitlines()
        own = [number for number, line in enumerate(lines) if line.startswith("error:")]
        if self.code < 0 and not own:
            lines.append(f"ended by signal {-self.code}" + (" (out of memory?)" if self.code == -9 else ""))
        return "\n".join(lines[own[-1] :] if own else lines[-most:])


def measured(argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path) -> Measured:
    """Run a command to its end; what it prints goes into ``log``."""
    log.parent.mkdir(parents=True, exist_ok=True)
    before, began_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with log.open("wb") as stream:
        process = subprocess.Popen(argv, cwd=cwd, env=dict(env), stdout=stream, stderr=subprocess.STDOUT)
        watch = _Watch(process.pid)
        watch.start()
        try:
            code = process.wait()
        except BaseException:
            process.terminate()
            raise
        finally:
            watch.stop()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Measured(
        code=code,
        elapsed_s=time.monotonic() - began_s,
        cpu_s=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        peak_bytes=watch.peak_bytes,
        log=log,
    )


class _Watch(threading.Thread):
    """Look at a process and its descendants every half second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.peak_bytes, self._ended = pid, 0, threading.Event()

    def run(self) -> None:
        while not self._ended.wait(INTERVAL_S):
            self.peak_bytes = max(self.peak_bytes, sum(map(memory_of, family_of(self.pid))))

    def stop(self) -> None:
        self._ended.set()
        self.join()


def family_of(pid: int) -> list[int]:
    """Return a process and its descendants, by /proc; only itself where there is none."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        children.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def memory_of(pid: int) -> int:
    """Return the bytes that a process holds; pages that several share are divided among them."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def memory_available() -> int | None:
    """Return the bytes that new processes may take, None where the system does not say."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
