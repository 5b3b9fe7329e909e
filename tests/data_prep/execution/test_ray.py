"""A Ray cluster of two nodes on this machine: the bytes of a local run, also when a worker is killed in a slide."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from data_prep.execution.executor import Died, make_executor
from data_prep.execution.ray import RETRIES, RayExecutor
from tests.helpers.jobs import sleep_on_zero
from tests.helpers.prepare import hashes, prepare_folder
from zoomldm.errors import UserError

os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # the loopback address, and not this machine's to the world
ray = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def cluster():
    from ray.cluster_utils import Cluster

    on_term = signal.getsignal(signal.SIGTERM)
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "node_ip_address": "127.0.0.1", "include_dashboard": False},
    )
    cluster.add_node(num_cpus=2, node_ip_address="127.0.0.1")
    before = os.environ.get("RAY_ADDRESS")
    os.environ["RAY_ADDRESS"] = cluster.address
    yield cluster
    ray.shutdown()
    cluster.shutdown()
    signal.signal(signal.SIGTERM, on_term)  # Ray leaves its own, which processes that other tests fork would inherit
    os.environ.pop("RAY_ADDRESS") if before is None else os.environ.update(RAY_ADDRESS=before)


@pytest.fixture
def slides(tiny_slide):
    for number, name in enumerate(("a", "b", "c", "d")):
        path = tiny_slide(name, seed=number, width=400, height=360)
    return path.parent


@pytest.mark.parametrize("encoders", [0, 1])
def test_two_nodes_make_the_same_bytes(cluster, slides, tmp_path, encoders):
    prepare_folder(slides, tmp_path / "local")
    prepare_folder(slides, tmp_path / "ray", executor=make_executor("ray", workers=2, encoders=encoders))
    assert hashes(tmp_path / "ray") == hashes(tmp_path / "local")
    assert len(ray.nodes()) == 2


def test_a_worker_that_is_killed_in_a_slide_costs_nothing_but_time(cluster, slides, tmp_path):
    prepare_folder(slides, tmp_path / "local")
    killed = []

    def kill_one() -> None:
        """Kill a worker of this cluster as soon as it has a slide half done."""
        data, deadline = tmp_path / "ray", time.monotonic() + 60
        while not killed and time.monotonic() < deadline:
            if any((data / "slides").glob(".*.part")):
                for number in workers_at_work():
                    os.kill(number, signal.SIGKILL)
                    killed.append(number)
            time.sleep(0.001)

    watcher = threading.Thread(target=kill_one)
    watcher.start()
    prepare_folder(slides, tmp_path / "ray", executor=RayExecutor(2))
    watcher.join()
    assert killed
    assert hashes(tmp_path / "ray") == hashes(tmp_path / "local")


def workers_at_work() -> list[int]:
    """Return the processes that Ray has named after our jobs."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and b"ray::_run" in Path(f"/proc/{entry}/cmdline").read_bytes():
                found.append(int(entry))
        except OSError:
            continue
    return found


def test_a_job_that_kills_every_worker_is_one_result_among_others(cluster):
    results = dict(RayExecutor(2).map(die_on_two, [1, 2, 3]))
    assert (results[0], results[2]) == (1, 3)
    assert isinstance(results[1], Died)
    assert f"{RETRIES + 1} times" in results[1].reason


def test_a_job_that_hangs_is_stopped(cluster):
    results = dict(RayExecutor(1, timeout_s=4.0).map(sleep_on_zero, [0, 1]))
    assert "longer than 4 s" in results[0].reason
    assert results[1] == 1


def test_a_mistake_ends_the_run(cluster):
    with pytest.raises(UserError, match="mistake"):
        list(RayExecutor(1).map(mistaken, [0]))


def test_an_address_that_leads_nowhere(cluster, monkeypatch):
    ray.shutdown()
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UserError, match="nothing answers at RAY_ADDRESS"):
        RayExecutor(1)


def die_on_two(number):
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def mistaken(number):
    raise UserError("a mistake")
