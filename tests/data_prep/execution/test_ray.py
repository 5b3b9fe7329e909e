"""A Ray cluster of two nodes on this machine: the bytes of a local run, also when a worker is killed in a slide."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from data_prep.execution import ray as executing
from data_prep.execution.encoding.queue import EncoderGoneError
from data_prep.execution.encoding.ray_actor import EncoderActor, _got
from data_prep.execution.executor import Died, make_executor
from data_prep.execution.ray import RETRIES, RayExecutor
from tests.helpers.jobs import sleep_on_zero
from tests.helpers.prepare import hashes, prepare_folder
from zoomldm.config import option_of
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


@contextmanager
def as_soon_as_a_slide_is_half_done(data: Path, do: Callable[[], object]) -> Iterator[None]:
    """Do something in the middle of a preparation, again until it returns something."""
    done = []

    def watch() -> None:
        deadline = time.monotonic() + 60
        while not done and time.monotonic() < deadline:
            if any((data / "slides").glob(".*.part")) and (found := do()):
                done.append(found)
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    yield
    watcher.join()
    assert done


def kill(name: bytes) -> list[int]:
    for number in (found := workers_at_work(name)):
        os.kill(number, signal.SIGKILL)
    return found


def test_a_worker_that_is_killed_in_a_slide_costs_nothing_but_time(cluster, slides, tmp_path):
    prepare_folder(slides, tmp_path / "local")
    with as_soon_as_a_slide_is_half_done(tmp_path / "ray", partial(kill, b"ray::_run")):
        prepare_folder(slides, tmp_path / "ray", executor=RayExecutor(2))
    assert hashes(tmp_path / "ray") == hashes(tmp_path / "local")


@pytest.mark.slow
def test_an_encoder_that_is_killed_is_started_again(cluster, slides, tmp_path):
    prepare_folder(slides, tmp_path / "local")
    with as_soon_as_a_slide_is_half_done(tmp_path / "ray", partial(kill, b"ray::EncoderActor")):
        prepare_folder(slides, tmp_path / "ray", executor=RayExecutor(2, encoders=1))
    assert hashes(tmp_path / "ray") == hashes(tmp_path / "local")


@pytest.fixture
def third(cluster):
    """Return a function that adds a node with two CPUs, which leaves at the end at the latest."""
    added = []

    def add():
        added.append(cluster.add_node(num_cpus=2, node_ip_address="127.0.0.1"))
        cluster.wait_for_nodes()
        return added[-1]

    yield add
    for node in added:
        if node in cluster.list_all_nodes():
            cluster.remove_node(node)


@pytest.mark.slow
def test_a_node_that_joins_late_takes_jobs(cluster, third):
    results = RayExecutor(None).map(where_after_a_while, [1.0] * 16)
    _, first = next(results)
    late = third()
    seen = {node for _, node in results}
    assert late.node_id in seen
    assert first != late.node_id


@pytest.mark.slow
def test_the_jobs_of_a_node_that_leaves_are_done_by_others(cluster, third, slides, tmp_path):
    leaving = third()
    results = RayExecutor(5).map(where_after_a_while, [4.0] * 5 + [0.1] * 3)
    watcher = threading.Timer(2.0, cluster.remove_node, [leaving, False])
    watcher.start()
    nodes = [node for _, node in results]
    watcher.join()
    assert len(nodes) == 8
    assert not [node for node in nodes if isinstance(node, Died)]
    assert leaving.node_id not in nodes
    prepare_folder(slides, tmp_path / "local")
    leaving = third()

    def leave():
        cluster.remove_node(leaving, False)
        return True

    with as_soon_as_a_slide_is_half_done(tmp_path / "ray", leave):
        prepare_folder(slides, tmp_path / "ray", executor=RayExecutor(None))
    assert hashes(tmp_path / "ray") == hashes(tmp_path / "local")


def test_more_encoders_than_there_is_room_for_are_refused(cluster):
    with pytest.raises(UserError, match=r"encoders=3: the cluster has 3 CPUs, of which each takes one"):
        list(RayExecutor(1, encoders=3).map(str, [1], encoder=option_of("encoder", "stats")))


def test_a_cluster_that_all_nodes_have_left_is_not_waited_for_for_ever(cluster, monkeypatch):
    executor = RayExecutor(1)
    monkeypatch.setattr(executing, "EMPTY_S", 0.5)
    monkeypatch.setattr(ray, "cluster_resources", dict)
    with pytest.raises(UserError, match=r"no CPU for jobs for 0\.5 s, its nodes have left; 1 jobs wait"):
        list(executor.map(sleep_on_zero, [0]))


def test_an_encoder_that_is_silent_or_dead_is_said(cluster):
    actor = ray.remote(EncoderActor).remote(option_of("encoder", "stats"))
    with pytest.raises(EncoderGoneError, match=r"has not answered for 0\.01 s"):
        _got(ray.remote(where_after_a_while).remote(5), 0.01)
    ray.kill(actor)
    with pytest.raises(EncoderGoneError, match="died too often"):
        _got(actor.describe.remote(), 30)


def workers_at_work(name: bytes = b"ray::_run") -> list[int]:
    """Return the processes that Ray has named after our jobs, or otherwise."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and name in Path(f"/proc/{entry}/cmdline").read_bytes():
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


def where_after_a_while(seconds):
    time.sleep(seconds)
    return ray.get_runtime_context().get_node_id()


def die_on_two(number):
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def mistaken(number):
    raise UserError("a mistake")
