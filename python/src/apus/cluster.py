"""``apus.Cluster``: ipyparallel's ``Cluster`` with our controller and engines."""

from __future__ import annotations

import asyncio
import dataclasses
import html
import json
import os
import signal
import subprocess
from collections.abc import Sequence
from typing import Any

import psutil

from apus import program
from apus.errors import ApusError

# First, because it refuses an ipyparallel that is too old.
from apus.launchers import ApusControllerLauncher, ApusEngineSetLauncher, last_lines, running_controller

# isort: split
import ipyparallel
from ipyparallel import error as ipyparallel_errors
from ipyparallel.traitlets import entry_points
from traitlets import Integer, List, Unicode, default

#: What names the program of a cluster's engines: a path, or a command.
Program = str | os.PathLike[str] | Sequence[str]

_STOCK_CLASS = "ipyparallel.cluster.cluster.Cluster"


@dataclasses.dataclass(frozen=True)
class Status:
    """What a cluster's engines are doing."""

    #: How many engines there are.
    engines: int
    #: How many of them have work.
    busy: int
    #: How many tasks and messages wait for an engine or at one, with those that run.
    queue: int


class Cluster(ipyparallel.Cluster):
    """A controller and engines, started and stopped together: ipyparallel's ``Cluster`` with our processes.

    As a context manager, sync or async, it gives ipyparallel's client::

        with apus.Cluster(n=4) as client:
            client[:].apply_sync(os.getpid)

        async with apus.Cluster(n=4) as client:
            await asyncio.wrap_future(client[:].apply_async(os.getpid))

    All options and methods of ``ipyparallel.Cluster`` are there.
    """

    engine_program = List(
        Unicode(), help="The command of the engines' own program, which imports Apus; empty: engines run Python only."
    ).tag(to_dict=True, nosignature=True)

    apus_launcher = Integer(
        None,
        allow_none=True,
        help="The process of `apus start`, where that has started the cluster and starts dead parts of it again.",
    ).tag(to_dict=True, nosignature=True)

    @default("controller_launcher_class")
    def _default_controller_launcher_class(self) -> type[ApusControllerLauncher]:
        return ApusControllerLauncher

    @default("engine_launcher_class")
    def _default_engine_launcher_class(self) -> type[ApusEngineSetLauncher]:
        return ApusEngineSetLauncher

    @default("delay")
    def _default_delay(self) -> float:
        # Engines are started when the controller has written its files, which takes no guess.
        return 0.0

    def __init__(
        self,
        n: int | None = None,
        *,
        engines: Program | type | None = None,
        controller: str | type | None = None,
        **options: Any,
    ) -> None:
        """Describes a cluster; nothing is started yet.

        :param n: How many engines; as many as there are processors unless told.
        :param engines: ``"apus"``, the name of another launcher (``"local"``, ``"ssh"``, ``"slurm"``), or a program that imports
            Apus, by a path with a slash (``"./my-program"``) or a command (``["./my-program", "--fast"]``). Such engines have the
            program's ``@Remote`` functions, and run Python too.
        :param controller: ``"apus"``, or the name of another launcher.
        :param options: Those of ``ipyparallel.Cluster``: ``profile``, ``profile_dir``, ``cluster_id``, ``controller_ip``,
            ``controller_args``, ``delay``, ``engine_timeout``, ``log_level``, ``shutdown_atexit`` and others.
        """
        if n is not None and isinstance(n, int) and n < 0:
            raise ApusError(f"n is {n}: a cluster cannot have fewer than no engines")
        command = _command(engines)
        if command is not None:
            options["engine_program"] = command
        elif engines is not None:
            options["engines"] = _launcher("engine", engines)
        if controller is not None:
            options["controller"] = _launcher("controller", controller)
        if n is not None:
            options["n"] = n
        super().__init__(**options)

    # From a file

    @classmethod
    def from_file(
        cls,
        cluster_file: str | None = None,
        *,
        profile: str | None = None,
        profile_dir: str | None = None,
        cluster_id: str = "",
        **options: Any,
    ) -> Any:
        """Finds a cluster that runs, whoever has started it, by its file, or its profile and id.

        Without arguments it is the one of ``apus start`` or ``ipcluster start``.
        """
        if cluster_file is None:
            names = {"profile": profile, "profile_dir": profile_dir}
            found = ipyparallel.Cluster(
                cluster_id=cluster_id, **{name: value for name, value in names.items() if value is not None}
            )
            cluster_file = found.cluster_file
        try:
            return super().from_file(cluster_file, **options)
        except FileNotFoundError:
            raise ApusError(f"there is no cluster at {cluster_file}. {_others(cluster_file)}") from None
        except ApusError:
            raise
        except Exception as error:
            raise ApusError(f"{cluster_file} describes no cluster that can be used: {error!r}") from error

    @classmethod
    def from_dict(cls, d: dict[str, Any], **options: Any) -> Any:
        """Makes the cluster that a cluster file describes."""
        if d["cluster"].get("class") == _STOCK_CLASS:
            # The same cluster, which differs in what this class adds to it.
            d = {**d, "cluster": {**d["cluster"], "class": f"{cls.__module__}.{cls.__qualname__}"}}
        return super().from_dict(d, **options)

    # Life

    async def start_and_connect(self, n: int | None = None, activate: bool = False) -> Any:
        """Starts the cluster, waits for its engines and gives a client."""
        try:
            return await super().start_and_connect(n=n, activate=activate)
        except ipyparallel_errors.EngineError as failure:
            command = " ".join(self.engine_program) or "apus engine"
            output = last_lines(self._engine_output())
            await self._stop_what_has_started()
            raise ApusError(f"the engines ended before they were ready ({command}): {output}") from failure
        except BaseException:
            await self._stop_what_has_started()
            raise

    def _engine_output(self) -> str:
        return "\n".join(engine_set.get_output() for engine_set in self.engines.values())

    async def _stop_what_has_started(self) -> None:
        await self.stop_engines()
        await self.stop_controller()

    async def stop_cluster(self) -> None:
        """Stops the controller and all engines, and before them what would start them again."""
        await self._stop_launcher()
        await super().stop_cluster()

    async def _stop_launcher(self) -> None:
        """Ends ``apus start``, which ends the cluster's other processes in order."""
        process, self.apus_launcher = self.apus_launcher, None
        if process is None or running_controller(self.cluster_file) is None:
            return
        try:
            launcher = psutil.Process(process)
            if self._was_there(launcher):
                launcher.send_signal(signal.SIGTERM)
                await asyncio.to_thread(launcher.wait, 30)
        except psutil.NoSuchProcess:
            pass

    def _was_there(self, process: psutil.Process) -> bool:
        """Whether a process is old enough to be one that the cluster's file names."""
        try:
            return process.create_time() <= os.stat(self.cluster_file).st_mtime + 1
        except FileNotFoundError:
            return False

    def remove_cluster_file(self) -> None:
        """Removes the cluster's file, unless another cluster of the same id has it."""
        if running_controller(self.cluster_file) is None:
            super().remove_cluster_file()

    # In words

    def status(self) -> Status | None:
        """What the engines are doing; None where no controller answers."""
        command = [program.path(), "status", "--json", "--profile-dir", self.profile_dir]
        if self.cluster_id:
            command += ["--cluster-id", self.cluster_id]
        try:
            run = subprocess.run(command, capture_output=True, timeout=5, stdin=subprocess.DEVNULL)
            if run.returncode != 0:
                return None
            answer = json.loads(run.stdout)
        except (OSError, ValueError, subprocess.TimeoutExpired):
            return None
        work = [engine["queue"] + engine["tasks"] for engine in answer["engines"].values()]
        return Status(len(work), sum(1 for count in work if count), sum(work) + answer["unassigned"])

    @property
    def log_file(self) -> str:
        """Where the controller's log is; empty where it has none. The engines' logs lie beside it."""
        return str(getattr(self.controller, "output_file", "") or "")

    def _facts(self) -> dict[str, str]:
        """What there is to say about the cluster, by name."""
        facts = {"cluster": repr(self.cluster_id), "profile": self.profile_dir}
        if self.controller is None or self.controller.state == "after":
            return facts | {"state": "not running"}
        status = self.status()
        if status is None:
            return facts | {"state": "its controller does not answer", "log": self.log_file}
        return facts | {
            "engines": str(status.engines),
            "busy": str(status.busy),
            "queue": str(status.queue),
            "log": self.log_file,
        }

    def __repr__(self) -> str:
        """One line: the cluster, what its engines do, and where the log is."""
        facts = self._facts()
        return f"<apus.Cluster {facts.pop('cluster')}: {', '.join(f'{name} {value}' for name, value in facts.items() if value)}>"

    def _repr_html_(self) -> str:
        """A table for notebooks."""
        rows = "".join(
            f"<tr><th style='text-align:left'>{name}</th><td style='text-align:left'>{html.escape(value)}</td></tr>"
            for name, value in self._facts().items()
            if value
        )
        return f"<table>{rows}</table>"


def _command(engines: Program | type | None) -> list[str] | None:
    """The command that names a program of one's own; None where a launcher is named."""
    if engines is None or isinstance(engines, type):
        return None
    if isinstance(engines, str) and os.sep not in engines:
        return None
    words = [os.fspath(engines)] if isinstance(engines, (str, os.PathLike)) else [os.fspath(word) for word in engines]
    if not words:
        raise ApusError("engines is an empty command; leave it out for engines that run Python")
    # Engines are started in another folder than this one, one day; the cluster's file is read in any.
    file = os.path.abspath(os.path.expanduser(words[0]))
    if not os.path.exists(file):
        raise ApusError(f"there is no program {words[0]} for the engines (looked for at {file})")
    if not os.path.isfile(file) or not os.access(file, os.X_OK):
        raise ApusError(f"{file} is no program that can be run, so engines cannot run it")
    return [file, *words[1:]]


def _launcher(kind: str, name: Any) -> Any:
    """The launcher of a name, with a clear error where there is none."""
    if not isinstance(name, str) or "." in name:
        return name
    known = sorted({entry.name.lower() for entry in entry_points(group=f"ipyparallel.{kind}_launchers")})
    if name.lower() in known:
        return name
    hint = f"; a program of your own is named with a slash: './{name}'" if kind == "engine" else ""
    raise ApusError(f"there is no launcher of a cluster's {kind} named '{name}'; there are {', '.join(known)}{hint}")


def _others(cluster_file: str) -> str:
    """Names the clusters that lie beside a file that is missing."""
    folder = os.path.dirname(cluster_file)
    try:
        names = [name for name in os.listdir(folder) if name.startswith("cluster-") and name.endswith(".json")]
    except OSError:
        names = []
    ids = sorted(name[len("cluster-") : -len(".json")] for name in names if running_controller(os.path.join(folder, name)))
    if ids:
        return f"In this profile there runs the cluster with the id {' and '.join(map(repr, ids))}"
    return "No cluster of this profile runs; start one with apus.Cluster(n=4).start_cluster_sync(), or 'apus start -n 4'"
