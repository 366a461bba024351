"""Widgets of engines in a notebook, which nbclient runs as a front end does: with our engines as with stock ones.

APUS_ENGINE and APUS_CONTROLLER are the commands that start an engine and a controller ("…/apus engine").
"""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time

import nbclient
import nbformat
import pytest

STATE = "application/vnd.jupyter.widget-state+json"
VIEW = "application/vnd.jupyter.widget-view+json"

CONNECT = """
import ipyparallel, os
rc = ipyparallel.Client(os.environ["CONNECTION_FILE"])
rc.wait_for_engines(1, timeout=60, interactive=False)
view = rc[:]
view.block = True
view.activate()
"""
# Waits for the widgets' messages, which no call waits for, while this cell is the one that the notebook's kernel runs.
PX = """
def px(code):
    # Without the client's own progress bar, which it shows where the cell takes a while.
    get_ipython().run_cell_magic("px", "--progress-after=100", code)
    (count,) = view.apply(lambda: len(__import__("comm").get_comm_manager().comms))
    while len(get_ipython().kernel.comm_manager.comms) < count: pass
    view.apply(int)
"""
PROGRESS = """px('''
from tqdm.notebook import tqdm
for i in tqdm(range(10)): pass
''')"""
SLIDER = """px('''
import ipywidgets
slider = ipywidgets.IntSlider(value=3)
seen = []
slider.observe(lambda change: seen.append(change["new"]), "value")
slider
''')"""
# What the kernel does with a front end's message.
MOVE = """
(name,) = view.pull("slider.model_id")
content = {"comm_id": name, "data": {"method": "update", "state": {"value": 42}, "buffer_paths": []}}
message = {"msg_type": "comm_msg", "header": {"msg_type": "comm_msg"}, "content": content, "metadata": {}, "buffers": []}
get_ipython().kernel.comm_manager.comm_msg(None, None, message)
while view.pull("seen") != [[42]]: pass
assert view.pull("slider.value") == [42]
"""
# By our hub nobody waits for the answer to such a message, for there is none.
QUEUE = "assert rc.queue_status()[0]['queue'] == 0 and not rc.outstanding"


def start(commands, folder):
    """A controller and an engine; gives the processes and the client's file."""
    processes = [subprocess.Popen([*commands[0], f"--profile-dir={folder}"], start_new_session=True)]
    files = [folder / "security" / f"ipcontroller-{role}.json" for role in ("engine", "client")]
    deadline = time.monotonic() + 60
    while not all(file.exists() for file in files):
        assert time.monotonic() < deadline, "no controller"
        time.sleep(0.05)
    return [*processes, subprocess.Popen([*commands[1], f"--profile-dir={folder}"], start_new_session=True)], files[1]


def run(commands, folder, cells, monkeypatch):
    """The notebook, run with such a controller and engine."""
    monkeypatch.setenv("IPYTHONDIR", str(folder / "ipython"))
    processes, file = start(commands, folder / "profile_test")
    monkeypatch.setenv("CONNECTION_FILE", str(file))
    try:
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
        return notebook
    finally:
        # ipyparallel's controller and engine have processes of their own, which do not always end with them.
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def models(notebook):
    return sorted(state["model_name"] for state in notebook.metadata["widgets"][STATE]["state"].values())


def test_widgets_of_an_engine_are_in_the_notebook_and_heed_it(tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_PATH", os.path.join(sys.prefix, "share", "jupyter"))
    python = [sys.executable, "-m"]
    stock = [[*python, "ipyparallel.controller", "--log-level=40"], [*python, "ipyparallel.engine", "--log-level=40"]]
    ours = [
        shlex.split(os.environ["APUS_CONTROLLER"]), [*shlex.split(os.environ["APUS_ENGINE"]), "--python", sys.executable],
    ]
    expected = run(stock, tmp_path / "stock", [CONNECT + PX, PROGRESS, SLIDER, MOVE], monkeypatch)
    found = run(ours, tmp_path / "ours", [CONNECT + PX, PROGRESS, SLIDER, MOVE, QUEUE], monkeypatch)
    assert models(found) == models(expected)
    # Eleven of the progress bar and three of the slider; a bar of the client's own, while it waits for engines, makes it 25.
    assert len(models(found)) == 14
    for cell in found.cells[1:3]:
        assert any(VIEW in output.get("data", {}) for output in cell.outputs)
