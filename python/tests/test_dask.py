"""dask.distributed on our engines, started by ipyparallel's client."""

from __future__ import annotations

import asyncio
import os
import pathlib
import signal
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any

import ipyparallel
import pytest
from ipyparallel import interactive as remote

import apus

pytest.importorskip("distributed")


@pytest.fixture
def client(profile: str) -> Iterator[Any]:
    with apus.Cluster(2, profile_dir=profile) as client:
        yield client


def scheduler_listens(address: str) -> bool:
    """Whether somebody takes connections there."""

    async def connect() -> bool:
        place = urllib.parse.urlparse(address)
        try:
            _, writer = await asyncio.open_connection(place.hostname, place.port)
        except OSError:
            return False
        writer.close()
        return True

    return asyncio.run(connect())


def ends(condition: Any, seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not condition()


@pytest.mark.parametrize("nanny", [False, True])
def test_the_engines_become_workers_and_engines_again(client: Any, nanny: bool) -> None:
    import dask.array
    import dask.dataframe
    import pandas

    with client.become_dask(nanny=nanny) as computer:
        computer.wait_for_workers(2, timeout=60)
        assert computer.submit(sum, [1, 2, 3]).result(timeout=60) == 6
        array = dask.array.arange(1_000_000, chunks=100_000)
        assert int((array + array[::-1]).sum().compute()) == 999_999 * 1_000_000
        table = pandas.DataFrame({"key": [n % 3 for n in range(300)], "value": range(300)})
        sums = dask.dataframe.from_pandas(table, npartitions=4).groupby("key").value.sum().compute()  # type: ignore[no-untyped-call]
        assert sums.to_dict() == {0: 14850, 1: 14950, 2: 15050}
        # Engines take ipyparallel's work meanwhile.
        assert client[:].apply_sync(remote(lambda: 42)) == [42, 42]
        address = computer.scheduler.address
        assert scheduler_listens(address)
    client.stop_dask()
    assert ends(lambda: scheduler_listens(address))
    assert client[:].apply_sync(remote(lambda: 43)) == [43, 43]
    # Without a scheduler there is nothing to stop, and that is no error.
    client.stop_dask()


def test_there_is_one_scheduler_with_the_arguments_of_the_first_request(client: Any) -> None:
    first = client.become_dask(targets=0, scheduler_args={"dashboard": False, "host": "127.0.0.1"})
    second = client.become_dask(targets=1, scheduler_args={"host": "no such host"})
    assert first.scheduler.address == second.scheduler.address
    assert first.scheduler.address.startswith("tcp://127.0.0.1:")
    first.wait_for_workers(2, timeout=60)
    second.close()
    first.close()
    client.stop_dask()


def test_dask_computes_again_what_a_killed_engine_had(client: Any) -> None:
    with client.become_dask() as computer:
        computer.wait_for_workers(2, timeout=60)
        victim = client[0].apply_sync(os.getpid)
        slow = remote(lambda n: (__import__("time").sleep(0.2), n * n)[1])
        futures = computer.map(slow, range(20), pure=False)
        time.sleep(0.5)
        os.kill(victim, signal.SIGKILL)
        assert computer.gather(futures) == [n * n for n in range(20)]
    client.stop_dask()


def test_the_scheduler_ends_with_a_controller_that_is_killed(profile: str) -> None:
    cluster = apus.Cluster(1, profile_dir=profile)
    with cluster as client:
        computer = client.become_dask()
        address = computer.scheduler.address
        assert scheduler_listens(address)
        os.kill(cluster.controller.pid, signal.SIGKILL)
        assert ends(lambda: scheduler_listens(address))
        computer.close()


def test_arguments_that_make_no_sense_are_an_error(client: Any) -> None:
    with pytest.raises(ipyparallel.RemoteError, match="no_such_argument"):
        client.become_dask(scheduler_args={"no_such_argument": 1})
    # The next try is not the worse for it.
    client.become_dask().close()
    client.stop_dask()


def test_a_python_without_distributed_says_what_to_install(profile: str, tmp_path: pathlib.Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    bare = str(tmp_path / "bare" / "bin" / "python")
    with (
        apus.Cluster(1, profile_dir=profile, controller_args=[f"--python={bare}"]) as client,
        pytest.raises(ipyparallel.RemoteError, match=r"No module named 'distributed'.*pip install distributed there"),
    ):
        client.become_dask()


def test_a_python_that_is_not_there_says_so(profile: str) -> None:
    with (
        apus.Cluster(1, profile_dir=profile, controller_args=["--python=/no/such/python"]) as client,
        pytest.raises(ipyparallel.RemoteError, match="dask's scheduler needs Python: there is no interpreter /no/such/python"),
    ):
        client.become_dask()
