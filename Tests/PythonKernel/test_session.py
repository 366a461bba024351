"""A notebook-like session: a real IPython, ipyparallel's client, and engines of ours.

APUS_ENGINE is the command that starts an engine ("…/apus engine"); APUS_CONTROLLER, if set, the one
that starts a controller, else it is ipyparallel's own.
"""

import os
import shlex
import sys
import time

import pytest

ipp = pytest.importorskip("ipyparallel")

pytestmark = pytest.mark.skipif("APUS_ENGINE" not in os.environ, reason="APUS_ENGINE names no engine to try")


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """An IPython, a client in it, and a cluster of two engines."""
    from IPython.testing.globalipapp import start_ipython

    os.environ["IPYTHONDIR"] = str(tmp_path_factory.mktemp("ipython"))
    shell = start_ipython()
    cluster = ipp.Cluster(n=2, log_level=40)
    cluster.engine_launcher_class.engine_cmd.default_args = ([*shlex.split(os.environ["APUS_ENGINE"]), "--python", sys.executable],)
    if "APUS_CONTROLLER" in os.environ:
        cluster.controller_launcher_class.controller_cmd.default_args = (shlex.split(os.environ["APUS_CONTROLLER"]),)
    client = cluster.start_and_connect_sync(activate=True)
    client[:].activate()
    shell.push({"client": client, "view": client[:]})
    yield shell, client
    client.close()
    cluster.stop_cluster_sync()


def shows(shell, capsys, cell):
    """What a notebook would show of a cell."""
    capsys.readouterr()
    shell.run_cell(cell)
    shown = capsys.readouterr()
    return shown.out + shown.err


def test_push_pull_and_scatter(session, capsys):
    shell, client = session
    shell.run_cell("view['a'] = 5\nview.scatter('part', range(8), block=True)")
    assert client[:].pull("a", block=True) == [5, 5]
    assert client[:].pull("part", block=True) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert client[:].gather("part", block=True) == list(range(8))


def test_px_shows_output_and_values_of_each_engine(session, capsys):
    shell, _ = session
    text = shows(shell, capsys, "%%px\nprint('I have', sum(part))\nlen(part)")
    assert "[stdout:0] I have 6" in text
    assert "[stdout:1] I have 22" in text
    assert "4" in text


def test_px_shows_plots(session, capsys):
    pytest.importorskip("matplotlib")
    shell, client = session
    client[:].execute("%matplotlib inline", silent=False, block=True)
    result = client[:].execute("import matplotlib.pyplot as plt\nplt.plot(part)", silent=False, block=True)
    result.wait_for_output(10)
    for outputs in result.outputs:
        assert any("image/png" in output["data"] for output in outputs)


def test_an_exception_on_one_engine_names_it(session, capsys):
    shell, client = session
    with pytest.raises(ipp.error.CompositeError) as raised:
        client[:].execute("if 7 in part: raise LookupError('seven')", silent=False, block=True)
    assert len(raised.value.elist) == 1
    assert raised.value.elist[0][0] == "LookupError"
    assert raised.value.elist[0][3]["engine_id"] == client.ids[1]


def test_a_crash_costs_one_task(session, capsys):
    _, client = session

    def crash():
        import ctypes

        ctypes.string_at(0)

    before = list(client.ids)
    with pytest.raises(ipp.RemoteError, match="segmentation fault"):
        client[before[0]].apply_sync(crash)
    assert client[before[0]].apply_sync(lambda: 6 * 7) == 42
    assert client.ids == before
    # The other engine was not concerned.
    assert client[before[1]].pull("a", block=True) == 5


def test_an_interrupt_ends_what_runs(session, capsys):
    import signal

    _, client = session

    def sleep():
        import time

        time.sleep(60)

    running = client[:].apply_async(sleep)
    time.sleep(0.5)
    client.send_signal(signal.SIGINT, block=True)
    with pytest.raises(ipp.error.CompositeError, match="KeyboardInterrupt"):
        running.get(20)


def test_a_kernel_is_restarted_in_the_same_place(session, capsys):
    _, client = session
    before = list(client.ids)
    client[:].push({"a": 5}, block=True)
    # Python's client refuses restart=True in shutdown(), so the request is sent as that would.
    for identity in map(str.encode, client._engines.values()):
        client.session.send(client._control_stream, "shutdown_request", {"restart": True}, ident=identity)
    time.sleep(1)
    assert client[:].apply_sync(lambda: "a" in globals()) == [False, False]
    assert client.ids == before


def test_functions_closures_partials_and_arrays_cross(session, capsys):
    numpy = pytest.importorskip("numpy")
    from functools import partial

    _, client = session
    factor = 3
    assert client[:].map_sync(lambda x: x * factor, range(4)) == [0, 3, 6, 9]
    assert client[0].apply_sync(partial(pow, 2), 10) == 1024
    array = numpy.arange(1 << 16).reshape(256, 256)
    assert (client[0].apply_sync(lambda x: x.T, array) == array.T).all()


def test_engines_answer_async_functions(session, capsys):
    _, client = session

    async def later(x):
        import asyncio

        await asyncio.sleep(0)
        return x + 1

    assert client[:].apply_sync(later, 1) == [2, 2]
