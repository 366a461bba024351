"""apus.Cluster."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from typing import Any

import ipyparallel
import pytest
from ipyparallel import interactive as remote

import apus
from apus import program


def test_a_cluster_is_a_scope_that_gives_ipyparallels_client(profile: str) -> None:
    with apus.Cluster(n=2, profile_dir=profile) as client:
        assert isinstance(client, ipyparallel.Client)
        assert client[:].apply_sync(remote(lambda x: x + 1), 1) == [2, 2]
        processes = client[:].apply_sync(os.getpid)
    assert not any(os.path.exists(f"/proc/{process}") for process in processes)


async def test_the_scope_may_be_asynchronous(profile: str) -> None:
    async with apus.Cluster(2, profile_dir=profile) as client:
        assert await asyncio.wrap_future(client[:].apply_async(remote(lambda x: x + 1), 1)) == [2, 2]


def test_a_scope_that_fails_ends_its_processes(profile: str) -> None:
    cluster = apus.Cluster(1, profile_dir=profile)
    processes: list[int] = []

    def fail() -> None:
        with cluster as client:
            processes.extend(client[:].apply_sync(os.getpid))
            raise LookupError("inside")

    with pytest.raises(LookupError, match="inside"):
        fail()
    assert not any(os.path.exists(f"/proc/{process}") for process in processes)
    assert cluster.controller is None


def test_its_repr_says_what_it_does_and_where_the_log_is(profile: str) -> None:
    cluster = apus.Cluster(2, profile_dir=profile, cluster_id="seen")
    assert "'seen'" in repr(cluster)
    assert "not running" in repr(cluster)
    with cluster as client:
        assert cluster.status() == apus.Status(engines=2, busy=0, queue=0)
        view = client.load_balanced_view()
        sleeping = view.map_async(remote(lambda _: __import__("time").sleep(0.5)), range(6))
        # The first two are under way before long.
        deadline = time.monotonic() + 10
        while (status := cluster.status()) and status.busy < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert re.search(r"engines 2, busy 2, queue [2-6], log .*\.log", repr(cluster))
        assert os.path.exists(cluster.log_file)
        assert "<td style='text-align:left'>2</td>" in cluster._repr_html_()
        sleeping.get()
    assert "not running" in repr(cluster)


def test_a_repr_says_so_where_no_controller_answers(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = apus.Cluster(1, profile_dir=profile)
    with cluster:
        monkeypatch.setenv("APUS_PROGRAM", "/bin/false")
        assert "does not answer" in repr(cluster)


def test_two_clusters_of_a_profile_have_ids_of_their_own(profile: str) -> None:
    with apus.Cluster(1, profile_dir=profile) as first, apus.Cluster(1, profile_dir=profile) as second:
        assert first[0].apply_sync(os.getpid) != second[0].apply_sync(os.getpid)


def test_it_is_found_again_as_what_it_is(profile: str) -> None:
    cluster = apus.Cluster(1, profile_dir=profile, cluster_id="again")
    with cluster as client:
        process = client[0].apply_sync(os.getpid)
        for kind in (apus.Cluster, ipyparallel.Cluster):
            found = kind.from_file(profile_dir=profile, cluster_id="again")
            assert type(found) is apus.Cluster
            with found.connect_client_sync() as other:
                assert other[0].apply_sync(os.getpid) == process


def test_a_cluster_of_the_command_is_found_and_stopped(profile: str) -> None:
    start = [sys.executable, "-m", "apus", "start", "-n", "2", "--daemonize", "--profile-dir", profile]
    subprocess.run(start, check=True, capture_output=True)
    found: Any = apus.Cluster.from_file(profile_dir=profile)
    assert type(found) is apus.Cluster
    assert found.status() == apus.Status(engines=2, busy=0, queue=0)
    with found.connect_client_sync() as client:
        processes = client[:].apply_sync(os.getpid)
    found.stop_cluster_sync()
    # Nothing starts them again.
    time.sleep(0.5)
    assert not any(os.path.exists(f"/proc/{process}") for process in processes)
    assert not os.path.exists(found.cluster_file)


def test_engines_can_be_a_swift_program_that_also_runs_python(profile: str) -> None:
    # The command is itself a program that imports Apus; its only function is the one that it measures with.
    cluster = apus.Cluster(1, engines=program.path(), profile_dir=profile, cluster_id="mixed")
    with cluster as client:
        assert client[0].apply_sync(remote(lambda: __import__("sys").executable)) == sys.executable
        assert client[0].apply_sync(ipyparallel.Reference("noop"), 7) == 7
        command = client[0].apply_sync(parent_command)
        assert command == [os.path.abspath(program.path())]
        found: Any = apus.Cluster.from_file(profile_dir=profile, cluster_id="mixed")
        found.restart_engines_sync()
        client.wait_for_engines(1, timeout=30)
        assert client[client.ids[0]].apply_sync(parent_command) == command
        # The new engines are this object's.
        found.stop_cluster_sync()


@remote
def parent_command() -> list[str]:
    import os

    with open(f"/proc/{os.getppid()}/cmdline") as file:
        return [word for word in file.read().split("\0") if word]


def test_its_launchers_can_be_others(profile: str) -> None:
    with apus.Cluster(1, engines="local", profile_dir=profile) as client:
        assert client[0].apply_sync(remote(lambda: 1)) == 1
