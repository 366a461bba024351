"""What `pip install` gives: a package, a command, types."""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import shutil
import subprocess
import sys

import apus
from apus import program


def output(*command: str, **environment: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **environment}).stdout.strip()


def test_the_package_and_the_program_have_one_version() -> None:
    assert output(program.path(), "--version") == apus.__version__ == importlib.metadata.version("apus")


def test_the_command_is_on_the_path() -> None:
    command = shutil.which("apus", path=str(pathlib.Path(sys.executable).parent))
    assert command
    assert output(command, "--version") == apus.__version__


def test_python_m_apus_is_the_same_command() -> None:
    assert output(sys.executable, "-m", "apus", "--version") == apus.__version__


def test_the_command_ends_with_the_status_of_the_program() -> None:
    run = subprocess.run([sys.executable, "-m", "apus", "start", "-n=-1"], capture_output=True, text=True)
    assert run.returncode == subprocess.run([program.path(), "start", "-n=-1"], capture_output=True).returncode != 0
    assert "a cluster cannot have fewer than no engines" in run.stderr


def test_the_command_does_not_import_ipyparallel() -> None:
    assert output(sys.executable, "-c", "import apus, apus.__main__, sys; print('ipyparallel' in sys.modules)") == "False"


def test_a_cluster_of_the_command_runs_the_python_of_its_environment(profile: str) -> None:
    # The environment is not active here, and another one is.
    start = [sys.executable, "-m", "apus", "start", "-n", "1", "--daemonize", "--profile-dir", profile]
    said = output(*start, VIRTUAL_ENV="/nowhere")
    output(sys.executable, "-m", "apus", "stop", "--profile-dir", profile)
    assert f"({sys.prefix}/bin/python)" in said


def test_the_package_is_typed() -> None:
    assert (pathlib.Path(apus.__file__).parent / "py.typed").is_file()
