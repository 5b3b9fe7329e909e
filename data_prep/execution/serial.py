"""Every job in this process, one after the other: for tests and debuggers."""

from collections.abc import Callable, Iterator, Sequence

from data_prep.execution.executor import JobT, ResultT
from zoomldm.config import Option


class SerialExecutor:
    """Jobs in this process, in their order."""

    def map(
        self, function: Callable[[JobT], ResultT], jobs: Sequence[JobT], *, encoder: Option | None = None
    ) -> Iterator[tuple[int, ResultT]]:
        for number, job in enumerate(jobs):
            yield number, function(job)
