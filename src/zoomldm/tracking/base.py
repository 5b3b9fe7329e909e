"""What a tracker does. A run's metrics.jsonl is the truth; a tracker copies it to a place where people look at runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from zoomldm.runs.run import Run


class Tracker:
    """Copy runs and sweeps to a server. This one copies nothing (tracking=none); every call returns at once.

    No call may raise because of a server, or wait for one longer than some seconds, except `upload`.
    """

    def follow(self, run: Run) -> None:
        """Begin to copy a run."""

    def notify(self) -> None:
        """Say that the run that is followed has new metrics."""

    def artifact(self, path: Path) -> None:
        """Copy a file or a folder to the run that is followed."""

    def sync(self) -> None:
        """Bring the run that is followed up to date, within a limited time."""

    def close(self) -> None:
        """Bring it up to date and stop following it."""
        self.sync()

    @contextmanager
    def following(self, run: Run) -> Iterator[None]:
        """Follow a run while the block runs; however it ends, the copy says so."""
        self.follow(run)
        try:
            yield
        finally:
            self.close()

    def upload(self, run: Run) -> int:
        """Bring a run's copy up to date, as long as that takes; return how many metrics were new.

        Raises:
            UserError: nothing says where to.
        """
        return 0

    def begin_sweep(self, folder: Path, words: str) -> None:
        """Group the runs that follow, in this process and in those that it starts, under one sweep.

        Args:
            folder: of the sweep; what `end_sweep` and `add_to_sweep` need is written there.
            words: overrides that say what is swept.
        """

    def end_sweep(self, folder: Path, *, failed: bool) -> None:
        """Close the sweep."""

    def add_to_sweep(
        self, folder: Path, metrics: Mapping[str, float], children: Sequence[tuple[Run, Mapping[str, float]]]
    ) -> None:
        """Copy what a sweep's comparison found, and put its runs below it, also those that were trained before.

        Args:
            metrics: of the sweep; the files ``comparison.*`` in its folder go with them.
            children: its runs, with the figures by which MLflow sets them side by side.
        """
