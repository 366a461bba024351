"""The session that docs/PythonEngines.md shows, in a real IPython with ipyparallel's client.

Every ```python block of the article after its first heading is a cell, and the ```text block that follows
shows what a notebook shows of it; `...` there stands for anything. So the article is true or this fails.

APUS_ENGINE and APUS_CONTROLLER are the commands that start an engine and a controller ("…/apus engine").
With WRITE_ARTICLE set, the output is written into the article instead.
"""

import doctest
import os
import pathlib
import re
import shlex
import sys

import pytest

from ipyparallel.cluster import launcher

ARTICLE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "PythonEngines.md"
COLOR = re.compile(r"\x1b\[[0-9;]*m")
CELL = re.compile(r"^```python\n(.*?)^```\n(?:\n?^```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """An IPython whose default cluster is ours."""
    from IPython.testing.globalipapp import start_ipython

    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    engine = [*shlex.split(os.environ["APUS_ENGINE"]), "--python", sys.executable]
    monkeypatch.setattr(launcher.EngineLauncher.engine_cmd, "default_args", (engine,))
    monkeypatch.setattr(
        launcher.ControllerLauncher.controller_cmd, "default_args", (shlex.split(os.environ["APUS_CONTROLLER"]),)
    )
    shell = start_ipython()
    shell.run_line_magic("colors", "nocolor")
    yield shell
    shell.run_cell("rc.close(); cluster.stop_cluster_sync()")


def shown(shell, capsys, cell):
    """What a notebook shows of a cell, without what only a terminal's progress bar shows."""
    capsys.readouterr()
    shell.run_cell(cell, store_history=True)
    output = capsys.readouterr()
    lines = [COLOR.sub("", line).rstrip() for line in (output.out + output.err).splitlines()]
    return "".join(f"{line}\n" for line in lines if "engine/s]" not in line).strip("\n")


def agree(expected, got):
    """Whether an output is as the article shows it. What engines show comes in the order in which they are done."""
    check = doctest.OutputChecker().check_output
    expected, got = expected.strip("\n").splitlines(), got.splitlines()
    return any(
        check("\n".join(one) + "\n", "\n".join(other) + "\n", doctest.ELLIPSIS)
        for one, other in ((expected, got), (sorted(expected), sorted(got)))
    )


def test_the_article_is_true(shell, capsys):
    text = ARTICLE.read_text()
    wrong, written, end = [], [], 0
    for found in CELL.finditer(text):
        cell, expected = found.groups()
        got = shown(shell, capsys, cell)
        written += [text[end : found.start()], f"```python\n{cell}```\n", f"\n```text\n{got}\n```\n" if got else ""]
        end = found.end()
        if not agree(expected or "", got):
            wrong.append(f"{cell}\nthe article shows:\n{expected}\nand it gives:\n{got}\n")
    if "WRITE_ARTICLE" in os.environ:
        ARTICLE.write_text("".join(written) + text[end:])
    else:
        assert not wrong, "\n".join(wrong)
