"""The kernel's event loop: what a request starts in it goes on between requests, and harms none."""

import json
import pickle
import textwrap
import time

import pytest
from nanny import Nanny


@pytest.fixture(scope="module", params=[False, True], ids=["ipython", "plain"])
def nanny(request):
    if not request.param:
        pytest.importorskip("IPython")
    kernel = Nanny(plain=request.param)
    kernel.run = lambda code: run(kernel, code)
    kernel.run("import asyncio, threading, time")
    yield kernel
    kernel.close()


def run(nanny, code):
    reply = nanny.execute(textwrap.dedent(code), silent=True)
    assert reply["status"] == "ok", "\n".join(reply["traceback"])


def text(nanny, end):
    """What is printed until that, with the number of the request that each message belongs to."""
    found, owners = "", set()
    while end not in found:
        parts = nanny.receive()
        if parts[0] == b"P" and parts[3] == b"stream":
            found += json.loads(parts[5])["text"]
            owners.add(int(parts[1]))
    return found, owners


TICKS = """
    async def tick():
        for n in range(10):
            await asyncio.sleep(0.01)
            print(n)
        print("done")
"""


@pytest.mark.parametrize("start", ["asyncio.ensure_future", "asyncio.create_task", "asyncio.get_running_loop().create_task"])
def test_a_task_of_a_cell_goes_on_between_requests(nanny, start):
    nanny.run(TICKS + f"    task = {start}(tick())")
    assert text(nanny, "done")[0].split() == [*map(str, range(10)), "done"]


def test_a_task_of_a_call_goes_on_between_requests(nanny):
    nanny.run(TICKS + "    def start():\n        global task\n        task = asyncio.create_task(tick())\n        return asyncio.get_running_loop().is_running()")
    assert pickle.loads(nanny.call(eval, "start()")[1][0]) is True
    text(nanny, "done")


def test_what_a_task_prints_belongs_to_the_request_that_started_it(nanny):
    nanny.run(
        """
        gate = asyncio.Event()
        async def later():
            await gate.wait()
            print("later")
        print("first", flush=True)
        task = asyncio.create_task(later())
        """
    )
    owner = nanny.owners[-1]
    nanny.execute("print('second')\ngate.set()", silent=True)
    assert nanny.owners == [owner + 1]
    assert text(nanny, "later") == ("later\n", {owner})


def test_tasks_go_on_while_a_cell_awaits(nanny):
    nanny.run("ticks = []\nasync def tick():\n    while True:\n        ticks.append(1)\n        await asyncio.sleep(0)\ntask = asyncio.create_task(tick())")
    nanny.run("await asyncio.sleep(0.02)\nassert len(ticks) > 3")
    nanny.run("task.cancel()")


def test_requests_are_served_beside_a_task_that_never_rests(nanny):
    nanny.run("count = 0\nasync def spin():\n    global count\n    while True:\n        count += 1\n        await asyncio.sleep(0)\ntask = asyncio.create_task(spin())")
    for number in range(20):
        assert pickle.loads(nanny.call(abs, -number)[1][0]) == number
    nanny.run("assert count > 10, count\ntask.cancel()")


def test_another_thread_wakes_the_loop(nanny):
    nanny.run(
        """
        loop = asyncio.get_running_loop()
        async def said(): print("said")
        gate = threading.Event()
        thread = threading.Thread(target=lambda: (gate.wait(), asyncio.run_coroutine_threadsafe(said(), loop).result(10), print("heard", flush=True)))
        thread.start()
        gate.set()
        """
    )
    assert "said" in text(nanny, "heard")[0]
    nanny.run("thread.join()\nx = loop.run_in_executor(None, lambda: 5)\nx.add_done_callback(lambda x: print('done', flush=True))")
    text(nanny, "done")


def test_descriptors_are_watched_between_requests(nanny):
    nanny.run(
        """
        import os
        r, w = os.pipe()
        asyncio.get_running_loop().add_reader(r, lambda: print(os.read(r, 10).decode(), flush=True))
        """
    )
    nanny.run("threading.Timer(0.01, os.write, (w, b'something')).start()")
    text(nanny, "something")
    nanny.run("asyncio.get_running_loop().remove_reader(r)")


@pytest.mark.parametrize(
    "code",
    [
        "asyncio.run(two())",
        "asyncio.get_event_loop().run_until_complete(two())",
        "asyncio.new_event_loop().run_until_complete(two())",
        "asyncio.get_running_loop().run_until_complete(asyncio.gather(two()))[0]",
    ],
)
def test_a_loop_can_be_run_in_a_cell_and_in_a_call(nanny, code):
    nanny.run("async def two():\n    await asyncio.sleep(0)\n    return 2")
    nanny.run(f"assert {code} == 2\nassert asyncio.get_running_loop().is_running()")
    content, buffers = nanny.call(eval, code)
    assert content == {"status": "ok"}, content
    assert pickle.loads(buffers[0]) == 2
    # Inside a coroutine Python's own rule holds.
    assert nanny.execute("await two()\nasyncio.run(two())", silent=True)["ename"] == "RuntimeError"


def test_the_loop_stays_when_user_code_stops_or_closes_it(nanny):
    nanny.run("loop = asyncio.get_running_loop()\nloop.call_soon(loop.stop)")
    nanny.run("asyncio.get_event_loop().close()\nawait asyncio.sleep(0)")
    nanny.run(TICKS + "    task = asyncio.create_task(tick())")
    text(nanny, "done")


@pytest.mark.parametrize("error", ["ValueError('x')", "SystemExit(3)", "KeyboardInterrupt()"])
def test_a_task_that_raises_harms_nobody(nanny, error):
    nanny.run(f"async def fails():\n    await asyncio.sleep(0)\n    raise {error}\ntask = asyncio.create_task(fails())")
    nanny.run(f"async def fails():\n    raise {error}\nasyncio.get_running_loop().call_soon(lambda: print('called', flush=True))")
    nanny.run("try: await asyncio.wait_for(asyncio.shield(task), 5)\nexcept BaseException: pass")
    nanny.run(TICKS + "    task = asyncio.create_task(tick())")
    text(nanny, "done")


# Interrupts


def test_an_interrupt_of_an_idle_kernel_leaves_its_tasks(nanny):
    nanny.run("async def waits():\n    await gate.wait()\n    print('went on')\ngate = asyncio.Event()\ntask = asyncio.create_task(waits())\nticking = asyncio.create_task(asyncio.sleep(60))")
    for _ in range(3):
        nanny.interrupt()
        assert nanny.receive() == [b"N"]
    nanny.run("gate.set()")
    text(nanny, "went on")
    nanny.run("assert not ticking.done()\nticking.cancel()")


def test_an_interrupt_ends_what_a_cell_awaits_and_no_other_task(nanny):
    nanny.run("ended = []\nother = asyncio.create_task(asyncio.sleep(60))\nasync def waits():\n    try:\n        print('on', flush=True)\n        await asyncio.sleep(60)\n    finally:\n        ended.append(1)")
    for request in (lambda: nanny.request("execute_request", {"code": "await waits()", "silent": True}), lambda: nanny.request(
        "apply_request", buffers=[pickle.dumps(x) for x in (eval, {"nargs": 1, "narg_bufs": 1, "kw_keys": []}, "waits()")])):
        request()
        text(nanny, "on")
        nanny.interrupt()
        assert nanny.reply()[0]["ename"] == "KeyboardInterrupt"
    nanny.run("assert ended == [1, 1] and not other.done()\nother.cancel()")


def test_an_interrupt_at_the_limit_of_what_awaits_says_so(nanny):
    nanny.published = []
    nanny.request("execute_request", {"code": "print('on', flush=True)\nawait asyncio.sleep(60)"}, metadata={"apus_limit": 0.05})
    text(nanny, "on")
    time.sleep(0.1)
    nanny.interrupt()
    content = nanny.reply()[0]
    assert (content["ename"], "limit of 0.05 s" in content["evalue"]) == ("KeyboardInterrupt", True)
    assert nanny.shown("error")[0]["ename"] == "KeyboardInterrupt"


def test_an_interrupt_ends_code_that_blocks_inside_what_is_awaited(nanny):
    nanny.request("execute_request", {"code": "async def blocks():\n    print('on', flush=True)\n    time.sleep(60)\nawait blocks()", "silent": True})
    text(nanny, "on")
    nanny.interrupt()
    assert nanny.reply()[0]["ename"] == "KeyboardInterrupt"


def test_an_interrupt_ends_a_task_that_keeps_the_cell_from_going_on(nanny):
    nanny.run("async def blocks():\n    await gate.wait()\n    print('on', flush=True)\n    time.sleep(60)\ngate = asyncio.Event()\ntask = asyncio.create_task(blocks())")
    nanny.request("execute_request", {"code": "gate.set()\nawait asyncio.sleep(30)", "silent": True})
    text(nanny, "on")
    nanny.interrupt()
    assert nanny.reply()[0]["ename"] == "KeyboardInterrupt"


def test_an_interrupt_ends_a_task_that_keeps_a_request_from_beginning(nanny):
    nanny.run("async def blocks():\n    await asyncio.sleep(0)\n    print('on', flush=True)\n    time.sleep(60)\ntask = asyncio.create_task(blocks())")
    text(nanny, "on")
    nanny.request("execute_request", {"code": "print('begun', flush=True)", "silent": True})
    # As the engine does, which repeats an interrupt that found nothing.
    while True:
        nanny.interrupt()
        parts = nanny.receive()
        # What tasks of earlier tests print when they are collected says nothing of the interrupt.
        while parts[0] == b"P":
            parts = nanny.receive()
        if parts != [b"N"]:
            break
    assert parts[0] == b"R"
    run(nanny, "assert task.done()")


# The end


@pytest.mark.parametrize("code", ["exit()", "quit()", "exit", "exit()\nx = 5", "exit(3)"])
@pytest.mark.parametrize("plain", [False, True], ids=["ipython", "plain"])
def test_exit_answers_the_cell_and_ends_the_interpreter_always(plain, code):
    if not plain:
        pytest.importorskip("IPython")
        code = code.replace("exit(3)", "quit()")
    nanny = Nanny(plain=plain)
    # One that waits behind it is not begun.
    for cell in (code, "print('begun')"):
        nanny.request("execute_request", {"code": cell})
    assert nanny.reply()[0]["status"] == "ok"
    assert nanny.is_ending
    assert nanny.reply() is None
    assert nanny.text() == ""
    assert nanny.close() == 0


def test_exit_in_a_call_is_the_same():
    kernel = Nanny(plain=True)
    assert kernel.call(eval, "exit()")[0] == {"status": "ok"}
    assert kernel.is_ending
    assert kernel.reply() is None
    kernel.close()


def test_exit_in_a_task_is_the_same():
    kernel = Nanny(plain=True)
    run(kernel, "import asyncio\nasync def leave():\n    await asyncio.sleep(0.01)\n    exit()\ntask = asyncio.create_task(leave())")
    assert kernel.reply() is None
    assert kernel.is_ending
    kernel.close()


def test_nested_loops_of_nest_asyncio_work():
    nest = pytest.importorskip("nest_asyncio2")
    nanny = Nanny(plain=True)
    run(nanny, f"import asyncio, {nest.__name__} as nest\nnest.apply()\nasync def two(): return 2\nassert asyncio.run(two()) == 2")
    run(nanny, "async def nested(): return asyncio.get_event_loop().run_until_complete(two())\nassert await nested() == 2")
    run(nanny, TICKS + "    task = asyncio.create_task(tick())")
    text(nanny, "done")
    nanny.close()
