"""Launchers of our controller and engines, for ipyparallel's ``Cluster`` and ``ipcluster``.

They are registered as ``apus``, so that ``ipyparallel.Cluster(controller="apus", engines="apus")`` and
``ipcluster start --controller=apus --engines=apus`` use them. What stock local launchers can do (options, configuration, signals,
restarts, cluster files), these inherit.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import Any

import ipyparallel
import psutil

from apus import program
from apus.errors import ApusError

#: The oldest ipyparallel whose clusters these launchers fit.
OLDEST_IPYPARALLEL = 9

if int(ipyparallel.__version__.split(".")[0]) < OLDEST_IPYPARALLEL:
    # A plain ImportError, which ipyparallel hands on to whoever asked for "apus".
    raise ImportError(
        f"apus needs ipyparallel {OLDEST_IPYPARALLEL}.0 or later, and {ipyparallel.__version__} is installed. "
        "Update it: pip install --upgrade ipyparallel"
    )

from ipyparallel.cluster.launcher import (  # noqa: E402
    LocalControllerLauncher,
    LocalEngineLauncher,
    LocalEngineSetLauncher,
)
from traitlets import default  # noqa: E402


def running_controller(cluster_file: str) -> int | None:
    """The process of the controller that a cluster file names, if it runs on this machine."""
    try:
        with open(cluster_file) as file:
            controller = json.load(file)["controller"]
        if controller["class"] not in ("apus", "local"):
            return None
        process = psutil.Process(controller["state"]["pid"])
        # A process that began after the file was written has only got the id of one that ended.
        began = process.create_time() <= os.stat(cluster_file).st_mtime + 1
        return int(process.pid) if began and process.status() != psutil.STATUS_ZOMBIE else None
    except (OSError, ValueError, LookupError, TypeError, psutil.Error):
        return None


class ApusControllerLauncher(LocalControllerLauncher):
    """Starts ``apus controller`` as a process of this machine."""

    #: The connection files that were there before the start, each with its inode: ours are put in the place of them.
    _old_files: dict[str, int] | None = None

    @default("controller_cmd")
    def _default_controller_cmd(self) -> list[str]:
        # The interpreter is for dask's scheduler.
        return [program.path(), "controller", f"--python={sys.executable}"]

    def start(self) -> Any:
        """Starts the controller; raises an ApusError if its cluster has one, or the program cannot be run."""
        try:
            if self.controller_cmd[0] == program.path():
                program.check(program.path())
            self._refuse_second()
            self._old_files = {file: os.stat(file).st_ino for file in self.connection_files.values() if os.path.exists(file)}
            return super().start()
        except BaseException:
            # The cluster has this launcher already, and would take it for a controller.
            if getattr(self.parent, "controller", None) is self:
                self.parent.controller = None
            raise

    def _refuse_second(self) -> None:
        cluster_file = getattr(self.parent, "cluster_file", "")
        process = running_controller(cluster_file) if cluster_file else None
        if process is None:
            return
        name = f"cluster '{self.cluster_id}'" if self.cluster_id else "the cluster without an id"
        arguments = f" --cluster-id {self.cluster_id}" if self.cluster_id else ""
        raise ApusError(
            f"{name} of the profile {self.profile_dir} already runs (its controller is process {process}). Connect to it with "
            f"ipyparallel.Client(profile_dir={self.profile_dir!r}, cluster_id={self.cluster_id!r}), stop it with "
            f"'apus stop --profile-dir {self.profile_dir}{arguments}', or give this one another cluster_id"
        )

    @property
    def _files_are_old(self) -> bool:
        """Whether a connection file is still that of an earlier controller, which was killed."""
        try:
            if not any(os.stat(file).st_ino == inode for file, inode in (self._old_files or {}).items()):
                return False
            # With --reuse the files stay as they are, and hold for this controller too.
            with open(self.output_file) as log:
                return "listening" not in log.read()
        except FileNotFoundError:
            return False

    async def get_connection_info(self, timeout: float | None = None) -> Any:
        """The controller's connection files, once this controller has written them."""
        # Where the log does not tell, these files may be the right ones.
        deadline = time.monotonic() + 5
        # Files tell of no change, so they are looked at again and again, as ipyparallel does.
        while self._files_are_old and time.monotonic() < deadline and self.poll() is None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        try:
            return await super().get_connection_info(timeout)
        except RuntimeError as error:
            raise ApusError(f"the controller ended before clients could connect: {last_lines(self.get_output())}") from error


class ApusEngineLauncher(LocalEngineLauncher):
    """Starts one engine: ``apus engine``, or a user's program that imports Apus."""

    @default("engine_cmd")
    def _default_engine_cmd(self) -> list[str]:
        return own_engine()

    def get_env(self) -> dict[str, str]:
        """The environment of the engine's process."""
        environment: dict[str, str] = super().get_env()
        if self.engine_cmd[1:2] != ["engine"]:
            # A program that imports Apus is an engine in this mode, and runs this Python beside its own functions.
            environment = {"APUS_ENGINE_MODE": "1", "APUS_ENGINE_PYTHON": sys.executable, **environment}
        return environment


class ApusEngineSetLauncher(LocalEngineSetLauncher):
    """Starts a set of engines as processes of this machine."""

    launcher_class = ApusEngineLauncher

    @default("engine_cmd")
    def _default_engine_cmd(self) -> list[str]:
        return list(getattr(self.parent, "engine_program", None) or own_engine())

    @default("delay")
    def _default_delay(self) -> float:
        # Engines get their ids from the hub, which takes a hundred at once.
        return 0.0

    def start(self, n: int) -> Any:
        """Starts the engines; raises an ApusError if their program cannot be run."""
        try:
            if self.engine_cmd[0] == program.path():
                program.check(program.path())
            return super().start(n)
        except BaseException as error:
            # The cluster has this set already, and would take it for engines.
            sets = getattr(self.parent, "engines", {})
            for name in [name for name, engines in sets.items() if engines is self]:
                del sets[name]
            for engine in self.launchers.values():
                engine.signal(9)
            if isinstance(error, OSError):
                raise ApusError(f"the engines' program {self.engine_cmd[0]} cannot be run: {error.strerror}") from error
            raise


def own_engine() -> list[str]:
    """The command of an engine that runs this Python."""
    return [program.path(), "engine", f"--python={sys.executable}"]


def last_lines(output: str, count: int = 3) -> str:
    """The end of what a process printed, for an error's sentence."""
    lines = [line for line in output.strip().splitlines() if line.strip()]
    return " / ".join(lines[-count:]) or "it printed nothing"
