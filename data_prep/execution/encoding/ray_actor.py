"""An encoder on some node of a Ray cluster, and a job's way to it."""

import asyncio
from typing import Any

import numpy as np

from data_prep.execution.encoding.batcher import PATIENCE_S, Batcher, shares
from data_prep.execution.encoding.own import get_encoder, share
from data_prep.execution.encoding.queue import (
    ROWS_S,
    START_S,
    EncoderGoneError,
    SharedEncoder,
    rows_of,
    silent,
    tell,
)
from zoomldm.config import Option
from zoomldm.errors import UserError

AHEAD = 4
"""Chunks that a worker sends to an encoder before it waits for rows."""


class EncoderActor:
    """An encoder on a node, filling its batches from all jobs; Ray gives it its GPU."""

    def __init__(self, option: Option) -> None:
        self.fault: UserError | None = None
        try:
            self.encoder = get_encoder(option)
            self.batcher = Batcher(self.encoder)
        except UserError as error:  # told to every job, the first of which ends the run
            self.fault = error
        self.calls: dict[int, tuple[asyncio.Future, list[np.ndarray], int]] = {}
        self.num_calls, self.at_work = 0, None

    async def describe(self) -> Any:
        return self.fault or tell(self.encoder)

    async def encode(self, tiles: np.ndarray) -> np.ndarray:
        self.num_calls += 1
        future = asyncio.get_running_loop().create_future()
        self.calls[self.num_calls] = future, [], len(tiles)
        self.batcher.add(self.num_calls, tiles)
        if self.at_work is None:
            self.at_work = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self.batcher.num_waiting:
                if not self.batcher.is_full:
                    await asyncio.sleep(PATIENCE_S)
                tiles, owners = self.batcher.take()
                for call, rows in shares(await loop.run_in_executor(None, rows_of, self.encoder, tiles), owners):
                    future, parts, wanted = self.calls[call]
                    parts.append(rows)
                    if sum(map(len, parts)) == wanted:
                        future.set_result(np.concatenate(parts))
                        del self.calls[call]
        except Exception as error:
            for future, _, _ in self.calls.values():
                future.set_exception(error)
            self.calls.clear()
        finally:
            self.at_work = None


def use_actor(option: Option, actor: Any) -> None:
    """Make the actor's encoder this process's encoder of an option.

    Raises:
        UserError: it could not be built there.
    """
    told = _got(actor.describe.remote(), START_S)
    if isinstance(told, UserError):
        raise told
    share(option, SharedEncoder(told, _ActorLink(actor)))


class _ActorLink:
    """A job's way to an encoder on some node."""

    def __init__(self, actor: Any) -> None:
        self._actor, self._sent = actor, []

    def begin(self) -> None:
        self._sent: list[Any] = []

    def send(self, tiles: np.ndarray) -> None:
        import ray

        self._sent.append(self._actor.encode.remote(np.ascontiguousarray(tiles)))
        if len(self._sent) > AHEAD and not ray.wait([self._sent[-AHEAD]], timeout=ROWS_S)[0]:
            raise silent(ROWS_S)

    def collect(self) -> list[np.ndarray]:
        return _got(self._sent, ROWS_S)


def _got(references: Any, limit_s: float) -> Any:
    """Return what an encoder answers.

    Raises:
        EncoderGoneError: it does not, within a time, or has died as often as Ray starts one again.
    """
    import ray

    try:
        return ray.get(references, timeout=limit_s)
    except ray.exceptions.GetTimeoutError as error:
        raise silent(limit_s) from error
    except ray.exceptions.RayActorError as error:
        raise EncoderGoneError(
            "the shared encoder has died too often to be started again (its memory, its GPU?); mend that, then run the "
            "same command again: it goes on from here"
        ) from error
