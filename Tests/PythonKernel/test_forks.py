"""Processes that user code makes: none of them reads, writes or closes what is the engine's."""

import os
import pickle
import textwrap

import pytest
from nanny import Nanny


@pytest.fixture(scope="module", params=[False, True], ids=["ipython", "plain"])
def nanny(request):
    if not request.param:
        pytest.importorskip("IPython")
    kernel = Nanny(plain=request.param)
    yield kernel
    kernel.close()


# What a forked child may do, as the body of a function, and the status that it ends with.
CHILDREN = {
    "returns": ("return 5", 0),
    "raises": ("1 / 0", 1),
    "exits": ("import sys; sys.exit(3)", 3),
    "exits with words": ("import sys; sys.exit('words')", 1),
    "exits at once": ("os._exit(4)", 4),
    "prints much": ("print('x' * 300000)", 0),
    "shows": ("from IPython.display import display; display(5)", 0),
    "runs a loop of its own": ("import asyncio; asyncio.run(asyncio.sleep(0.01))", 0),
    "runs another loop": ("import asyncio; asyncio.new_event_loop().run_until_complete(asyncio.sleep(0.01))", 0),
    "has a thread": ("import threading; t = threading.Thread(target=print, args=('on',)); t.start(); t.join()", 0),
    "forks again": ("pid = os.fork()\nif pid: assert os.waitpid(pid, 0)[1] == 0", 0),
}


def define(nanny, name, body):
    code = f"import os\ndef {name}():\n" + textwrap.indent(body, "    ")
    assert nanny.execute(code, silent=True)["status"] == "ok"


def check_health(nanny):
    """Requests and answers still alternate, and nothing is between them."""
    for number in range(20):
        content, buffers = nanny.call(abs, -number)
        assert content == {"status": "ok"}
        assert pickle.loads(buffers[0]) == number


@pytest.mark.parametrize("child", CHILDREN)
def test_a_child_that_a_call_forks_ends_by_itself(nanny, child):
    body, status = CHILDREN[child]
    define(nanny, "child", body)
    define(nanny, "forks", "pid = os.fork()\nif not pid: return child()\nreturn os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])")
    content, buffers = nanny.call(eval, "forks()")
    assert content == {"status": "ok"}
    assert pickle.loads(buffers[0]) == status
    check_health(nanny)


@pytest.mark.parametrize("child", ["pass", "raise ValueError", "raise SystemExit(1)"])
def test_a_child_that_a_cell_forks_ends_by_itself(nanny, child):
    code = f"import os\npid = os.fork()\nif not pid: {child}\nelse: status = os.waitpid(pid, 0)[1]\nprint(os.getpid())"
    reply = nanny.execute(code)
    assert reply["status"] == "ok"
    assert nanny.text() == f"{nanny.process.pid}\n"
    nanny.execute("status")
    assert nanny.shown("execute_result")[0]["data"]["text/plain"] == ("0" if child == "pass" else "256")
    check_health(nanny)


def test_a_child_has_no_descriptor_of_the_engine(nanny):
    code = """
        ours = [(found.st_dev, found.st_ino) for found in map(os.fstat, (3, 4))]
        pid = os.fork()
        if not pid:
            held = 0
            for number in range(64):
                try: found = os.fstat(number)
                except OSError: continue
                held += (found.st_dev, found.st_ino) in ours
            os._exit(held)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    """
    define(nanny, "forks", textwrap.dedent(code).strip())
    assert pickle.loads(nanny.call(eval, "forks()")[1][0]) == 0
    check_health(nanny)


def test_a_child_that_outlives_its_call_takes_no_request(nanny, tmp_path):
    gate = tmp_path / "gate"
    define(nanny, "forks", f"""
import time
if not os.fork():
    while not os.path.exists({str(gate)!r}): time.sleep(0.01)
return 1""")
    assert pickle.loads(nanny.call(eval, "forks()")[1][0]) == 1
    check_health(nanny)
    gate.touch()
    check_health(nanny)


def test_a_child_forked_by_a_thread_harms_nothing(nanny):
    define(nanny, "forks", """
import threading
pids = []
def work():
    pid = os.fork()
    if pid: pids.append(pid)
thread = threading.Thread(target=work)
thread.start()
thread.join()
return os.waitpid(pids[0], 0)[1]""")
    assert pickle.loads(nanny.call(eval, "forks()")[1][0]) == 0
    check_health(nanny)


def test_a_child_forked_by_a_task_of_the_loop_runs_no_other_task(nanny, tmp_path):
    file = tmp_path / "pids"
    code = f"""
        import asyncio, os
        async def forks():
            await asyncio.sleep(0.01)
            global pid
            pid = os.fork()
        async def writes():
            for n in range(20):
                await asyncio.sleep(0.005)
                with open({str(file)!r}, "a") as out: out.write(f"{{os.getpid()}}\\n")
        tasks = [asyncio.ensure_future(forks()), asyncio.ensure_future(writes())]
    """
    assert nanny.execute(textwrap.dedent(code), silent=True)["status"] == "ok"
    assert nanny.execute("await asyncio.wait(tasks)\nassert os.waitpid(pid, 0)[1] == 0", silent=True)["status"] == "ok"
    assert set(file.read_text().split()) == {str(nanny.process.pid)}
    check_health(nanny)


def test_a_child_forked_while_a_cell_awaits_ends_with_its_error(nanny):
    code = """
        import asyncio, os
        pid = os.fork()
        if pid: status = os.waitpid(pid, 0)[1]
        await asyncio.sleep(0.01)
        assert pid and os.WEXITSTATUS(status) == 1, status
    """
    # A loop does not go on in a child, as in Python itself.
    assert nanny.execute(textwrap.dedent(code), silent=True)["status"] == "ok"
    check_health(nanny)


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing_harms_nothing(nanny, method):
    define(nanny, "works", f"""
import multiprocessing
with multiprocessing.get_context({method!r}).Pool(2) as pool:
    return pool.map(abs, [-1, -2, -3])""")
    content, buffers = nanny.call(eval, "works()")
    assert content == {"status": "ok"}, content
    assert pickle.loads(buffers[0]) == [1, 2, 3]
    check_health(nanny)


def test_executors_and_subprocesses_harm_nothing(nanny):
    define(nanny, "works", """
import concurrent.futures, multiprocessing, subprocess, sys
with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
    results = list(pool.map(abs, [-1, -2]))
code = "import os\\nfor n in (3, 4, 5):\\n try: os.fstat(n)\\n except OSError: pass\\n else: print(n)"
for options in ({}, {"preexec_fn": os.setsid}, {"close_fds": False}):
    results.append(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, **options).stdout)
return results""")
    content, buffers = nanny.call(eval, "works()")
    assert content == {"status": "ok"}, content
    assert pickle.loads(buffers[0]) == [1, 2, "", "", ""]
    check_health(nanny)


def test_a_child_is_interrupted_as_any_process(nanny):
    define(nanny, "forks", """
import signal, time
r, w = os.pipe()
pid = os.fork()
if not pid:
    try:
        os.write(w, b"x")
        time.sleep(60)
    except KeyboardInterrupt:
        os._exit(7)
os.read(r, 1)
os.kill(pid, signal.SIGINT)
return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])""")
    assert pickle.loads(nanny.call(eval, "forks()")[1][0]) == 7
    check_health(nanny)


def test_the_kernel_ends_while_a_child_lives_on(tmp_path):
    gate = tmp_path / "gate"
    nanny = Nanny(plain=True)
    code = f"import os, time\nif not os.fork():\n    while not os.path.exists({str(gate)!r}): time.sleep(0.01)"
    assert nanny.execute(code, silent=True)["status"] == "ok"
    # The child has none of the descriptors, so the end is seen.
    nanny.process.kill()
    assert nanny.receive() is None
    gate.touch()
    nanny.close()
