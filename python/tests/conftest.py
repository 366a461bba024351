"""The tests run against the package that is installed: a wheel (scripts/wheel --test), or the sources with a debug program."""

from __future__ import annotations

import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

import pytest

# Without the user's own profiles and configuration; before ipyparallel looks for them. The path is short, for sockets' sake.
_folder = tempfile.mkdtemp(prefix="apus-py-")
os.environ["IPYTHONDIR"] = _folder


@pytest.fixture(scope="session", autouse=True)
def _clean() -> Iterator[None]:
    yield
    shutil.rmtree(_folder, ignore_errors=True)


@pytest.fixture
def profile() -> Iterator[str]:
    """A profile's folder of the test's own."""
    folder = tempfile.mkdtemp(prefix="profile_", dir=_folder)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def fake_program(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The place of a program that stands in for ours; a test writes it."""
    path = tmp_path / "apus"
    monkeypatch.setenv("APUS_PROGRAM", str(path))
    return path
