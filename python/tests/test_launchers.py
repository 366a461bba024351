"""ipyparallel's own Cluster and ipcluster, with our controller and engines."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import ipyparallel
import pytest
from ipyparallel import interactive as remote

from apus import program


@remote
def pid() -> int:
    import os

    return os.getpid()


@pytest.fixture
def cluster(profile: str) -> Iterator[Any]:
    cluster = ipyparallel.Cluster(controller="apus", engines="apus", n=2, profile_dir=profile, cluster_id="one", delay=0)
    yield cluster
    cluster.stop_cluster_sync()


def engines_of(profile: str) -> Any:
    """What `apus list` says of the only cluster of a profile."""
    run = subprocess.run([program.path(), "list", "--json", "--profile-dir", profile], capture_output=True, check=True)
    (listing,) = json.loads(run.stdout)
    return listing


def test_one_line_changes(cluster: Any) -> None:
    with cluster as client:
        assert client.ids == [0, 1]
        assert client[:].apply_sync(remote(lambda x: x * 2), 21) == [42, 42]
        assert client.load_balanced_view().map_sync(remote(lambda x: x**2), range(10)) == [x**2 for x in range(10)]


def test_engines_run_the_python_of_the_caller(cluster: Any) -> None:
    with cluster as client:
        assert client[0].apply_sync(remote(lambda: __import__("sys").executable)) == sys.executable


def test_a_signal_interrupts_the_engines(cluster: Any) -> None:
    with cluster as client:
        view = client[:]
        sleeping = view.apply_async(remote(lambda: (print("asleep", flush=True), __import__("time").sleep(60))))
        deadline = time.monotonic() + 20
        while not all(sleeping.stdout or [""]) and time.monotonic() < deadline:
            time.sleep(0.02)
        cluster.signal_engines_sync(signal.SIGINT)
        with pytest.raises(ipyparallel.CompositeError, match="KeyboardInterrupt"):
            sleeping.get(timeout=20)
        # The engines go on.
        assert view.apply_sync(remote(lambda: 1)) == [1, 1]


def test_engines_are_restarted(cluster: Any) -> None:
    with cluster as client:
        before = client[:].apply_sync(pid)
        cluster.restart_engines_sync()
        client.wait_for_engines(2, timeout=30)
        deadline = time.monotonic() + 20
        while len(client.ids) != 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not set(before) & set(client[:].apply_sync(pid))


def test_engines_and_controller_get_their_options(profile: str) -> None:
    cluster = ipyparallel.Cluster(
        controller="apus", engines="apus", profile_dir=profile, controller_ip="127.0.0.1", controller_args=["--hwm=1"], delay=0
    )
    try:
        cluster.start_controller_sync()
        assert {"--ip=127.0.0.1", "--hwm=1"} <= set(cluster.controller.args)
        name = cluster.start_engines_sync(n=1, environment={"COLOUR": "green"}, engine_args=["--resources=gpu=1"])
        client = cluster.connect_client_sync()
        client.wait_for_engines(1, timeout=30)
        assert client[0].apply_sync(remote(lambda: __import__("os").environ["COLOUR"])) == "green"
        cluster.start_engines_sync(n=2)
        client.wait_for_engines(3, timeout=30)
        cluster.stop_engines_sync(name)
        deadline = time.monotonic() + 20
        while len(client.ids) != 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert client.ids == [1, 2]
        client.close()
    finally:
        cluster.stop_cluster_sync()


def test_a_cluster_is_found_again_from_its_file(cluster: Any) -> None:
    with cluster as client:
        found = ipyparallel.Cluster.from_file(profile_dir=cluster.profile_dir, cluster_id="one")
        assert found.controller_launcher_class.__name__ == "ApusControllerLauncher"
        with found.connect_client_sync() as other:
            assert other[:].apply_sync(pid) == client[:].apply_sync(pid)
        before = client[:].apply_sync(pid)
        found.restart_engines_sync()
        client.wait_for_engines(2, timeout=30)
        found.stop_cluster_sync()
        assert not any(os.path.exists(f"/proc/{process}") for process in before)
        assert not os.path.exists(cluster.cluster_file)


def test_our_own_command_lists_and_stops_such_a_cluster(cluster: Any) -> None:
    with cluster as client:
        engines = client[:].apply_sync(pid)
        listing = engines_of(cluster.profile_dir)
        assert (listing["running"], listing["engines"], listing["launcher"]) == (True, 2, "apus")
        subprocess.run([program.path(), "stop", "--profile-dir", cluster.profile_dir, "--cluster-id", "one"], check=True)
        assert not any(os.path.exists(f"/proc/{process}") for process in engines)
        assert not os.path.exists(cluster.cluster_file)


def test_files_of_a_killed_controller_do_not_mislead(profile: str) -> None:
    for _ in range(2):
        cluster = ipyparallel.Cluster(
            controller="apus", engines="apus", n=1, profile_dir=profile, cluster_id="", delay=0, shutdown_atexit=False
        )
        client = cluster.start_and_connect_sync()
        assert client[0].apply_sync(remote(lambda: 1)) == 1
        client.close()
        os.kill(cluster.controller.pid, signal.SIGKILL)
        cluster.stop_engines_sync()
        deadline = time.monotonic() + 10
        while cluster.controller.state != "after" and time.monotonic() < deadline:
            cluster.controller.poll()
            time.sleep(0.02)
        cluster.stop_controller_sync()
        files = cluster.profile_dir + "/security"
        assert os.path.exists(f"{files}/ipcontroller-engine.json")


def test_ipcluster_starts_and_stops_it(profile: str) -> None:
    ipcluster = [sys.executable, "-m", "ipyparallel.cluster"]
    place = [f"--profile-dir={profile}"]
    start = [*ipcluster, "start", "--controller=apus", "--engines=apus", "--n=2", "--daemonize", *place]
    subprocess.run(start, check=True, capture_output=True)
    with ipyparallel.Client(profile_dir=profile, cluster_id="") as client:
        client.wait_for_engines(2, timeout=30)
        assert client[:].apply_sync(remote(lambda: 1)) == [1, 1]
    listed = subprocess.run([*ipcluster, "list", *place], check=True, capture_output=True, text=True).stdout
    assert "Apus" in listed
    subprocess.run([*ipcluster, "stop", *place], check=True, capture_output=True)
    assert not list(pathlib.Path(profile, "security").glob("cluster-*"))
