"""Jobs on a Ray cluster (``executor=ray``): slides are decoded wherever a CPU is free, GPUs hold shared encoders.

Slides and ``data.root`` must lie under the same paths on every node, and this checkout as well. Ray starts a job whose
worker or node has died again elsewhere, from the beginning of its slide.
"""

import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from data_prep.execution.encoding.own import stop_sharing
from data_prep.execution.encoding.ray_actor import EncoderActor, use_actor
from data_prep.execution.executor import THREAD_VARIABLES, Died, JobT, Patience, ResultT, fault_of
from zoomldm.config import Option
from zoomldm.errors import ConfigError, UserError

ROOT = Path(__file__).resolve().parents[2]
RETRIES = 3
"""How often a job is started again after its worker has died."""
RESTARTS = 10
"""How often an encoder is, over a whole run."""
EMPTY_S, FETCH_S = 300.0, 120.0
"""Limits: of a cluster without a CPU for jobs, of fetching a result that is there."""


class RayExecutor:
    """Jobs of one CPU each on the cluster this machine belongs to (``RAY_ADDRESS``), else on one of its own.

    Args:
        workers: jobs at once; None: as many as the cluster has CPUs, also those that join later.
        timeout_s: a job that takes longer, its wait for a CPU included, is stopped and counts as died.
        encoders: shared encoders; None: one for each GPU of the cluster. Without GPUs they take a CPU each.

    Raises:
        ConfigError: Ray is not installed, or RAY_ADDRESS leads nowhere.
    """

    def __init__(self, workers: int | None, *, timeout_s: float | None = None, encoders: int | None = None) -> None:
        try:
            import ray
        except ImportError as error:
            raise ConfigError("executor=ray: Ray is not installed; pip install -e '.[ray]'") from error
        self.ray, self.workers, self.timeout_s, self.encoders = ray, workers, timeout_s, encoders
        if not ray.is_initialized():
            self._join()

    def _join(self) -> None:
        paths = os.pathsep.join([str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        variables = {"PYTHONPATH": paths} | dict.fromkeys(THREAD_VARIABLES, "1")
        common = {"runtime_env": {"env_vars": variables}, "logging_level": logging.WARNING, "log_to_driver": False}
        address = os.environ.get("RAY_ADDRESS")
        if address and not _is_there(address):
            raise ConfigError(f"executor=ray: nothing answers at RAY_ADDRESS={address}; is the cluster up?")
        try:
            self.ray.init(address=address or "auto", **common)
        except (ConnectionError, ValueError) as error:
            if address:
                raise ConfigError(f"executor=ray: RAY_ADDRESS={address} cannot be joined ({error})") from error
            print("executor=ray: this machine belongs to no cluster; it becomes one of its own")
            local = {"num_cpus": self.workers} if self.workers else {}
            self.ray.init(include_dashboard=False, _node_ip_address="127.0.0.1", **local, **common)

    def map(
        self, function: Callable[[JobT], ResultT], jobs: Sequence[JobT], *, encoder: Option | None = None
    ) -> Iterator[tuple[int, ResultT | Died]]:
        """Yield (number of the job in ``jobs``, result) in the order of completion."""
        ray = self.ray
        actors = self._encoders(encoder) if encoder and jobs else []
        task = ray.remote(_run).options(num_cpus=1, max_retries=RETRIES, retry_exceptions=False)
        waiting = list(enumerate(jobs))[::-1]
        running: dict[Any, tuple[int, float]] = {}
        stopped: set[Any] = set()
        patience, had_room = Patience(), time.monotonic()
        try:
            while waiting or running:
                while waiting and len(running) < self._places():
                    number, job = waiting.pop()
                    actor = actors[number % len(actors)] if actors else None
                    running[task.remote(function, job, encoder, actor)] = number, time.monotonic()
                done, _ = ray.wait(list(running), num_returns=1, timeout=1.0)
                patience.check(len(running))
                had_room = self._check_room(len(running), actors, had_room)
                for reference in done:
                    patience.renew()
                    number, _ = running.pop(reference)
                    yield number, self._result(reference, is_stopped=reference in stopped)
                for reference, (_, began) in running.items():
                    if self.timeout_s and time.monotonic() - began > self.timeout_s and reference not in stopped:
                        stopped.add(reference)
                        ray.cancel(reference, force=True)
        finally:
            if ray.is_initialized():  # else a call would start a cluster
                for reference in running:
                    ray.cancel(reference, force=True)
                for actor in actors:
                    ray.kill(actor)

    def _places(self) -> int:
        return self.workers or max(1, int(self.ray.cluster_resources().get("CPU", 1)))

    def _encoders(self, option: Option) -> list[Any]:
        """Start the shared encoders.

        Raises:
            ConfigError: more than the cluster has places for.
        """
        resources = self.ray.cluster_resources()
        gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
        number = self.encoders
        if number is None:
            number = gpus if option.arguments.get("weights") else 0
        if number > (gpus or cpus - 1):
            there = f"{gpus} GPUs, one for each" if gpus else f"{cpus} CPUs, of which each takes one and jobs need one"
            raise ConfigError(f"encoders={number}: the cluster has {there}; give fewer, or let more nodes join first")
        place = {"num_gpus": 1, "num_cpus": 0} if gpus else {"num_cpus": 1}
        actor = self.ray.remote(EncoderActor).options(max_restarts=RESTARTS, max_task_retries=-1, **place)
        return [actor.remote(option) for _ in range(number)]

    def _check_room(self, num_running: int, actors: list[Any], had_room: float) -> float:
        """Return when the cluster had a CPU for jobs last, beside those of encoders.

        Raises:
            UserError: it has had none for too long.
        """
        resources = self.ray.cluster_resources()
        if resources.get("CPU", 0) - (0 if resources.get("GPU", 0) else len(actors)) >= 1:
            return time.monotonic()
        if time.monotonic() - had_room > EMPTY_S:
            raise UserError(
                f"executor=ray: the cluster has had no CPU for jobs for {EMPTY_S:g} s, its nodes have left; "
                f"{num_running} jobs wait. Let nodes join, then run the same command again: it goes on from here"
            )
        return had_room

    def _result(self, reference: Any, *, is_stopped: bool) -> Any:
        """Return a job's result, what it died of, or raise what must end the run."""
        if is_stopped:
            with contextlib.suppress(Exception):
                return self.ray.get(reference, timeout=FETCH_S)
            return Died(f"took longer than {self.timeout_s:g} s")
        try:
            result = self.ray.get(reference, timeout=FETCH_S)
        except self.ray.exceptions.GetTimeoutError:
            return Died(f"its result could not be fetched from its node within {FETCH_S:g} s")
        except (self.ray.exceptions.WorkerCrashedError, self.ray.exceptions.NodeDiedError) as error:
            return Died(f"its worker died {RETRIES + 1} times ({type(error).__name__})")
        except self.ray.exceptions.RayError as error:
            return Died(f"Ray could not run it ({type(error).__name__}: {str(error).splitlines()[0]})")
        if isinstance(result, Exception):
            raise result
        return result


def _is_there(address: str) -> bool:
    """Say whether something listens at host:port, since Ray itself waits without end."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdigit():
        return True  # `auto`, or a scheme that Ray resolves itself
    try:
        with socket.create_connection((host, int(port)), timeout=10):
            return True
    except OSError:
        return False


def _run(function: Callable[[Any], Any], job: Any, option: Option | None, actor: Any) -> Any:
    try:
        if actor is not None:
            use_actor(option, actor)
        return function(job)
    except Exception as error:
        return fault_of(error)
    finally:
        if actor is not None:
            stop_sharing(option)  # the next job in this process may know another actor, or none
