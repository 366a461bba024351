"""The kernel alone, over its socket pair: what it runs, publishes and survives."""

import math
import os
import pickle
import signal
import time

import pytest
from nanny import Nanny


@pytest.fixture(scope="module")
def shared():
    nannies = {}
    yield lambda plain: nannies.setdefault(plain, Nanny(plain=plain))
    for nanny in nannies.values():
        nanny.close()


@pytest.fixture(params=[False, True], ids=["ipython", "plain"])
def nanny(request, shared):
    if not request.param:
        pytest.importorskip("IPython")
    kernel = shared(request.param)
    kernel.send(b"C")
    return kernel


@pytest.fixture
def ipython(shared):
    pytest.importorskip("IPython")
    return shared(False)


def test_a_cell_shows_its_input_its_output_and_its_value(nanny):
    reply = nanny.execute("print('hello')\n6 * 7")
    assert reply["status"] == "ok"
    assert nanny.shown("execute_input")[0]["code"].endswith("6 * 7")
    assert nanny.text() == "hello\n"
    assert nanny.shown("execute_result")[0]["data"]["text/plain"] == "42"
    assert [kind for _, kind, _, _ in nanny.published] == ["execute_input", "stream", "execute_result"]


def test_cells_are_counted_unless_silent(nanny):
    first = nanny.execute("1")["execution_count"]
    assert nanny.execute("1", silent=True)["execution_count"] == first
    assert nanny.published == []
    assert nanny.execute("1")["execution_count"] == first + 1


def test_an_error_is_published_and_replied(nanny):
    reply = nanny.execute("1/0")
    assert (reply["status"], reply["ename"], reply["evalue"]) == ("error", "ZeroDivisionError", "division by zero")
    assert reply["engine_info"] == {"engine_uuid": "uuid-7", "engine_id": 7, "method": "execute"}
    assert "ZeroDivisionError" in "".join(reply["traceback"])
    assert nanny.shown("error")[0]["ename"] == "ZeroDivisionError"
    assert nanny.flags == b"abort"


def test_a_syntax_error_is_an_error(nanny):
    assert nanny.execute("def")["ename"] == "SyntaxError"


def test_a_silent_error_stops_nothing_else(nanny):
    assert nanny.execute("1/0", silent=True)["status"] == "error"
    assert nanny.flags == b""


def test_expressions_are_evaluated_after_a_cell(nanny):
    reply = nanny.execute("x = 3", user_expressions={"double": "2 * x", "none": "nowhere"})
    assert reply["user_expressions"]["double"]["data"]["text/plain"] == "6"
    assert reply["user_expressions"]["none"]["status"] == "error"


def test_await_works_at_top_level(nanny):
    assert nanny.execute("import asyncio\nawait asyncio.sleep(0)\nx = 5")["status"] == "ok"
    assert nanny.execute("x")["status"] == "ok"
    assert nanny.shown("execute_result")[0]["data"]["text/plain"] == "5"


def test_a_call_gives_its_result(nanny):
    content, buffers = nanny.call(math.sqrt, 2.0)
    assert content == {"status": "ok"}
    assert pickle.loads(buffers[0]) == math.sqrt(2.0)


def test_a_call_takes_keywords(nanny):
    assert pickle.loads(nanny.call(sorted, [3, 1, 2], reverse=True)[1][0]) == [3, 2, 1]


def test_a_map_calls_once_for_each_place(nanny):
    assert pickle.loads(nanny.call(math.pow, [1, 2, 3], [2, 2, 2], metadata={"apus_map": True})[1][0]) == [1, 4, 9]


def test_a_failing_call_says_how(nanny):
    content, buffers = nanny.call(math.sqrt, -1.0)
    assert (content["ename"], content["engine_info"]["method"], buffers) == ("ValueError", "apply", [])
    assert nanny.shown("error")[0]["ename"] == "ValueError"


def test_arguments_that_cannot_be_read_fail_the_task(nanny):
    content, _ = nanny.apply(pickle.dumps(math.sqrt), b"no pickle")
    assert content["status"] == "error"


def test_an_asynchronous_function_is_awaited(nanny):
    nanny.execute("async def later(x):\n    import asyncio\n    await asyncio.sleep(0)\n    return x + 1", silent=True)
    content, buffers = nanny.call(eval, "later(1)")
    assert content == {"status": "ok"}, content


def test_clear_empties_the_namespace(nanny):
    nanny.execute("x = 1")
    nanny.send(b"C")
    assert nanny.execute("x")["ename"] == "NameError"


def test_an_interrupt_ends_the_task_and_not_the_kernel(nanny):
    nanny.published = []
    nanny.request("execute_request", {"code": "print('on', flush=True)\nimport time\ntime.sleep(30)", "silent": True})
    parts = nanny.receive()
    while parts[3] != b"stream":
        parts = nanny.receive()
    nanny.interrupt()
    assert nanny.reply()[0]["ename"] == "KeyboardInterrupt"
    assert nanny.execute("1")["status"] == "ok"


def test_an_idle_kernel_says_that_an_interrupt_found_nothing(nanny):
    nanny.interrupt()
    assert nanny.receive() == [b"N"]
    assert nanny.execute("1")["status"] == "ok"


def test_an_interrupt_at_the_limit_says_so(nanny):
    nanny.published = []
    nanny.request("execute_request", {"code": "import time\ntime.sleep(30)", "silent": True}, metadata={"apus_limit": 0.05})
    # The time runs from here on, and not from when the request was sent.
    assert nanny.receive() == [b"B"]
    time.sleep(0.1)
    nanny.interrupt()
    content = nanny.reply()[0]
    assert content["ename"] == "KeyboardInterrupt"
    assert "limit of 0.05 s" in content["evalue"]


def test_what_a_signal_handler_raises_while_idle_harms_nothing(nanny):
    code = "import signal\ndef handler(number, frame): raise RuntimeError('a handler')\nsignal.signal(signal.SIGUSR1, handler)"
    nanny.execute(code, silent=True)
    nanny.process.send_signal(signal.SIGUSR1)
    assert b"a handler" in nanny.receive()[5]
    assert nanny.execute("signal.signal(signal.SIGUSR1, signal.SIG_DFL)", silent=True)["status"] == "ok"


def test_an_error_that_cannot_be_shown_is_still_an_error(nanny):
    code = "class Bad(Exception):\n    def __str__(self): raise ValueError('no words')\ndef bad(): raise Bad()"
    nanny.execute(code, silent=True)
    content, _ = nanny.call(eval, "bad()")
    assert content["ename"] == "Bad"
    assert nanny.execute("1")["status"] == "ok"


@pytest.mark.parametrize("function", ["input", "getpass.getpass"])
def test_nobody_answers_input(nanny, function):
    # As in stock engines.
    nanny.execute("import getpass", silent=True)
    reply = nanny.execute(f"{function}('name? ')")
    assert reply["ename"] == "StdinNotImplementedError"
    assert "name?" in reply["evalue"]
    reply, _ = nanny.call(eval, f"{function}('name? ')")
    assert reply["ename"] == "EOFError"
    assert "name?" in reply["evalue"]


def test_what_is_longer_than_a_message_can_be_is_refused(nanny):
    # Memory that is asked for and not touched costs nothing.
    nanny.execute("import mmap\nlarge = mmap.mmap(-1, (1 << 32) + 1)\npart = memoryview(large)", silent=True)
    pytest.importorskip("numpy")
    content, _ = nanny.call(eval, "__import__('numpy').frombuffer(part, 'B')")
    assert (content["ename"], "4 GiB" in content["evalue"]) == ("ValueError", True)
    assert nanny.execute("del part")["status"] == "ok"


def test_output_of_a_forked_process_tears_no_frame(nanny):
    code = "import os\npid = os.fork()\nif not pid:\n    print('child')\n    os._exit(0)\nos.waitpid(pid, 0)\nprint('parent')"
    assert nanny.execute(code, silent=True)["status"] == "ok"
    assert nanny.text() == "parent\n"


def test_output_before_a_long_wait_comes_at_once(nanny, tmp_path):
    gate = tmp_path / "gate"
    nanny.published = []
    code = f"print('now')\nimport os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)"
    nanny.request("execute_request", {"code": code, "silent": True})
    assert nanny.receive()[3] == b"stream"
    gate.touch()
    assert nanny.reply()[0]["status"] == "ok"


def test_completion(nanny):
    nanny.execute("abcdef = 1", silent=True)
    nanny.request("complete_request", {"code": "abcd", "cursor_pos": 4})
    assert any(match.startswith("abcdef") for match in nanny.reply()[0]["matches"])


def test_large_results_cross_whole(nanny):
    pytest.importorskip("numpy")
    nanny.execute("import numpy", silent=True)
    content, buffers = nanny.call(eval, "__import__('numpy').arange(1 << 20)")
    assert content == {"status": "ok"}
    assert sum(map(len, buffers)) > 8 << 20


# IPython's own


def test_magics_run(ipython):
    ipython.execute("%pwd")
    assert os.getcwd() in ipython.shown("execute_result")[0]["data"]["text/plain"]
    ipython.execute("%%capture out\nprint('kept')", silent=True)
    assert ipython.text() == ""


def test_display_publishes_rich_data(ipython):
    ipython.execute("from IPython.display import HTML, display\ndisplay(HTML('<b>x</b>'))", silent=True)
    assert ipython.shown("display_data")[0]["data"]["text/html"] == "<b>x</b>"


def test_get_ipython_knows_the_engine(ipython):
    ipython.execute("get_ipython().kernel.engine_id")
    assert ipython.shown("execute_result")[0]["data"]["text/plain"] == "7"


def test_get_ipython_has_a_log(ipython):
    # As ipyparallel's functions for dask expect.
    ipython.execute("get_ipython().kernel.log.warning('mind the gap')")
    assert "mind the gap" in ipython.text("stderr")


def test_data_is_published_as_ipyparallel_does(ipython):
    pytest.importorskip("ipyparallel")
    ipython.execute("from ipyparallel.datapub import publish_data\npublish_data({'a': 5})", silent=True)
    (topic, kind, content, buffers) = ipython.published[0]
    assert (topic, kind, content) == ("datapub", "data_message", {"keys": ["a"]})
    assert pickle.loads(buffers[0]) == {"a": 5}


def test_canned_functions_and_references_are_called(ipython):
    serialize = pytest.importorskip("ipyparallel.serialize")
    import ipyparallel

    def scaled(x, factor=2):
        return x * factor

    scaled.__module__ = "__main__"
    ipython.execute("y = 21", silent=True)
    _, buffers = ipython.apply(*map(bytes, serialize.pack_apply_message(scaled, (ipyparallel.Reference("y"),), {})))
    assert pickle.loads(buffers[0]) == 42


@pytest.mark.parametrize("options", [[], ["-S"]], ids=["with ipyparallel", "without"])
def test_the_answer_to_a_call_that_requires_a_missing_module_names_it(options):
    serialize = pytest.importorskip("ipyparallel.serialize")
    import ipyparallel

    def needs():
        return math.sqrt(4) + twice(1)

    def twice(x):
        return 2 * x

    needs.__module__ = twice.__module__ = "__main__"
    nanny = Nanny(plain=True, options=options)
    missing = ipyparallel.require("math", "no_such_module_at_all")(needs)
    content, _ = nanny.apply(*map(bytes, serialize.pack_apply_message(missing, (), {})))
    assert content["ename"] == "UnmetDependency"
    assert "no_such_module_at_all" in content["evalue"]
    present = ipyparallel.require("math", twice)(needs)
    content, buffers = nanny.apply(*map(bytes, serialize.pack_apply_message(present, (), {})))
    assert content["status"] == "ok", content
    assert pickle.loads(buffers[0]) == 4
    nanny.close()


# Life


def test_the_kernel_goes_when_the_engine_closes_its_end():
    assert Nanny(plain=True).close() == 0


def test_the_kernel_dies_with_the_engine_even_in_a_call_that_holds_the_lock():
    nanny = Nanny(plain=True)
    nanny.request("execute_request", {"code": "print('on', flush=True)\nsum(range(10**12))", "silent": True})
    nanny.receive()
    os.close(nanny.life)
    assert nanny.process.wait(10) != 0
    nanny.life = os.dup(2)
    nanny.close()


def test_start_up_code_runs_before_the_first_cell(tmp_path):
    script = tmp_path / "start.py"
    script.write_text("from_file = 2")
    nanny = Nanny(plain=True, lines=["from_line = 1"], files=[str(script)])
    assert nanny.execute("assert (from_line, from_file) == (1, 2)")["status"] == "ok"
    nanny.close()


def test_start_up_code_runs_in_ipython_too(tmp_path):
    pytest.importorskip("IPython")
    script = tmp_path / "start.py"
    script.write_text("from_file = 2")
    nanny = Nanny(lines=["from_line = 1"], files=[str(script)], traits=[["InteractiveShell", "colors", "nocolor"]])
    assert nanny.execute("assert (from_line, from_file) == (1, 2)")["status"] == "ok"
    assert "\x1b" not in "".join(nanny.execute("1/0")["traceback"])
    nanny.close()
