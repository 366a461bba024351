"""The Python side of an engine: runs the requests that the engine's process hands over, one at a time.

The engine's process holds everything that must not depend on user code: sockets, heartbeats, the queue,
aborts, time limits. It starts this interpreter with one end of a socket pair and speaks frames over it:

    to us      boot: sources, settings (JSON)
               R, type, metadata, content, buffers …     a request
               I, id, uuid                               who we are on the wire
               C                                         clear the namespace
    from us    S, what we are (JSON)                     ready
               B                                         the request, which has a limit, begins
               N                                         an interrupt came while no request ran
               P, number, topic, type, metadata, content, buffers …    a message to publish for that request
               E                                         user code wants the interpreter to end: at most one reply follows
               R, status, error's name, flags, content, buffers …    the request's reply

When the engine closes its end, the kernel finishes and exits. Requests are numbered as they come, from 1. The flag `abort` is for
an error that stops the cells queued behind this one.
"""

import asyncio
import builtins
import getpass
import importlib.util
import inspect
import json
import os
import platform
import signal
import sys
import threading
import time
import traceback

from apus_kernel.calls import Calls
from apus_kernel.channel import Channel, Interrupts
from apus_kernel.comms import REQUESTS as COMM_REQUESTS
from apus_kernel.comms import Comms
from apus_kernel.loop import KernelLoop
from apus_kernel.output import Publisher, Stream, packed, write_all


CALL = compile("function(*arguments, **keywords)", "<call>", "eval")


class EngineInfo:
    """The value of `get_ipython().kernel`, for user code."""

    def __init__(self):
        self.engine_id = -1
        self.ident = ""
        self.shell = None
        self.comms = None

    @property
    def comm_manager(self):
        return self.comms.manager()

    @property
    def log(self):
        import logging

        return logging.getLogger("apus.kernel")

    @property
    def int_id(self):
        return self.engine_id

    def get_engine_info(self, method=None):
        info = {"engine_uuid": self.ident, "engine_id": self.engine_id}
        return {**info, "method": method} if method else info


class Kernel:
    def __init__(self, sock, settings):
        self.loop = KernelLoop()
        self.loop.let_loops_run()
        asyncio.set_event_loop(self.loop)
        self.interrupts = Interrupts(self.loop)
        self.channel = Channel(sock, self.interrupts, self.loop, shared_memory(settings))
        self.publisher = Publisher(self.channel)
        self.calls = Calls(self.publisher)
        self.info = EngineInfo()
        self.comms = self.info.comms = Comms(self.publisher, self.info)
        self.comms.offer()
        self.interrupts.install(lambda: self.channel.send(b"N"))
        self._method = None
        self.loop.show()
        self.shell = self._make_shell(settings)
        self.loop.hide()
        self.info.shell = self.shell
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout = Stream(self.publisher, "stdout", 1)
        sys.stderr = Stream(self.publisher, "stderr", 2)
        builtins.input = getpass.getpass = self._refuse_input

    def _make_shell(self, settings):
        if settings.get("mpi"):
            # MPI starts in all processes together, so it comes before anything that may take long.
            settings.setdefault("lines", []).insert(0, settings["mpi"])
        if settings.get("plain") or importlib.util.find_spec("IPython") is None:
            from apus_kernel.plain_shell import PlainShell

            shell = PlainShell(self.publisher, self.loop, settings)
            shell.kernel = self.info
            return shell
        from apus_kernel.ipython_shell import make_shell

        return make_shell(self.publisher, self.calls, self.info, self.loop, settings)

    def serve(self):
        self.channel.send(b"S", json.dumps(self._capabilities()).encode())
        self.calls.prepare()
        while True:
            try:
                if not self._serve_next():
                    return
            except BaseException as error:
                if not self.channel.is_ours:
                    end_child(error)
                # Raised between two tasks, by a signal handler of user code, and belongs to neither.
                traceback.print_exc()

    def _serve_next(self):
        """Serves one frame. False when it was the last."""
        self.channel.wait()
        if not self.channel.is_ours:
            end_child(None)
        if self.shell.exit_now:
            # Code in the loop has asked for the end.
            self.channel.send(b"E")
            return False
        parts = self.channel.receive()
        if parts is None:
            return False
        kind = parts[0]
        if kind == b"R":
            self._run(parts[1], parts[2], parts[3], parts[4:])
            if parts[1] == b"apply_request":
                self.calls.complete()
            return not self.shell.exit_now
        if kind == b"C":
            self._clear()
        elif kind == b"I":
            self.info.engine_id, self.info.ident = int(parts[1]), parts[2].decode()
        return True

    def _capabilities(self):
        ipython = "IPython" in sys.modules
        about = {"python": platform.python_version(), "executable": sys.executable, "ipython": ipython}
        return {**about, "memory": self.channel.memory is not None}

    def _clear(self):
        try:
            self.shell.clear()
        except Exception as error:
            print(f"clearing the namespace: {error!r}", file=sys.stderr)

    # One request

    def _run(self, kind, metadata, content, buffers):
        self._method = method = "apply" if kind == b"apply_request" else "execute"
        runners = {b"apply_request": self._apply, b"execute_request": self._execute}
        runner = runners.get(kind, self._answer)
        # Only Apus's own clients write the members that are read here.
        metadata = json.loads(metadata) if b'"apus_' in metadata or kind in COMM_REQUESTS else {}
        self.publisher.begin()
        started, limit = time.monotonic(), metadata.get("apus_limit")
        if limit:
            self.channel.send(b"B")
            self.interrupts.limit_message = lambda: limit_message(limit, time.monotonic() - started)
        name, flags, results = b"", b"", ()
        try:
            try:
                self.loop.show()
                self.interrupts.task_runs = True
                reply, flags, results = runner(kind, metadata, content, buffers)
                if not self.channel.is_ours:
                    end_child(None)
            finally:
                self.interrupts.task_runs = False
        except BaseException as error:
            if not self.channel.is_ours:
                end_child(error)
            reply, results = self._error(error, method, self._show(error)), ()
            if kind in COMM_REQUESTS:
                reply = None
            elif method == "execute":
                reply.update(execution_count=self.shell.execution_count - 1, user_expressions={}, payload=[])
        self.loop.hide()
        self._method = self.interrupts.limit_message = None
        if reply is None:
            status, content = b"none", b"{}"
        elif isinstance(reply, bytes):
            status, content = b"ok", reply
        else:
            status = b"error" if reply.get("status") == "error" else b"ok"
            name, content = reply.get("ename", "").encode("utf-8", "replace"), packed(reply)
        self.publisher.flush()
        if self.shell.exit_now:
            self.channel.send(b"E")
        self.channel.send(b"R", status, name, flags, content, *results)

    def _show(self, error):
        try:
            return self.shell.show_error(error, user_trace(error))
        except BaseException as problem:
            # An error whose own code fails must not end the kernel.
            print(f"showing {type(error).__name__}: {problem!r}", file=sys.stderr)
            return None

    def _apply(self, kind, metadata, content, buffers):
        function, arguments, keywords = self.calls.unpack(buffers, self.shell.user_ns)
        if metadata.get("apus_map"):
            result = [self._call(function, place, {}) for place in zip(*arguments)]
        else:
            result = self._call(function, arguments, keywords)
        return b'{"status": "ok"}', b"", self.calls.pack(result)

    def _call(self, function, arguments, keywords):
        # Called in the namespace and not from here, because functions such as eval() and globals() look at their caller.
        call = {"function": function, "arguments": arguments, "keywords": keywords}
        result = eval(CALL, self.shell.user_ns, call)
        return self.shell.wait_for(result) if inspect.iscoroutine(result) else result

    def _execute(self, kind, metadata, content, buffers):
        content = json.loads(content)
        code, silent = content["code"], bool(content.get("silent", False))
        if not silent:
            count = self.shell.execution_count
            self.publisher.publish("execute_input", "execute_input", {"code": code, "execution_count": count})
        self.shell.take_traceback()
        error = self.shell.run(code, silent, bool(content.get("store_history", not silent)))
        if not self.channel.is_ours:
            end_child(error)
        flags = b""
        if error is None:
            expressions = self.shell.user_expressions(content.get("user_expressions") or {})
            reply = {"status": "ok", "user_expressions": expressions}
        else:
            reply = self._error(error, "execute", self.shell.take_traceback())
            reply["user_expressions"] = {}
            if not silent and content.get("stop_on_error", True):
                flags = b"abort"
        reply.update(execution_count=self.shell.execution_count - 1, payload=self.shell.take_payload())
        return reply, flags, ()

    def _answer(self, kind, metadata, content, buffers):
        if kind in COMM_REQUESTS:
            self.comms.handle(kind, metadata, json.loads(content), buffers)
            return None, b"", ()
        kind = kind.decode()
        if kind == "kernel_info_request":
            return self._kernel_info(), b"", ()
        if kind == "comm_info_request":
            return {"status": "ok", "comms": self.comms.known(json.loads(content).get("target_name"))}, b"", ()
        if kind == "connect_request":
            return {"status": "ok"}, b"", ()
        reply = self.shell.answer(kind, json.loads(content))
        return ({"status": "ok", **reply} if reply is not None else None), b"", ()

    def _kernel_info(self):
        version = platform.python_version()
        return {
            "status": "ok", "protocol_version": "5.4", "implementation": "apus", "implementation_version": "1.0",
            "banner": f"Apus engine, Python {version}", "help_links": [],
            "language_info": {
                "name": "python", "version": version, "mimetype": "text/x-python", "file_extension": ".py",
                "pygments_lexer": "ipython3", "nbconvert_exporter": "python",
                "codemirror_mode": {"name": "ipython", "version": sys.version_info[0]},
            },
        }

    def _refuse_input(self, prompt="", *more, **options):
        """Stands in for `input` and `getpass`, and raises the errors that they raise in stock engines."""
        text = (
            f"input() was called with {str(prompt)!r}, and nobody can answer: an engine has no keyboard. "
            "Ask in the client, and push the answer"
        )
        raise (self.shell.no_input if self._method == "execute" else EOFError)(text)

    def _error(self, error, method, lines):
        try:
            text = str(error)
        except Exception as problem:
            text = f"(its text cannot be had: {problem!r})"
        if lines is None:
            lines = [f"{type(error).__name__}: {text}"]
        return {
            "status": "error", "ename": type(error).__name__, "evalue": text, "traceback": list(lines),
            "engine_info": self.info.get_engine_info(method),
        }


def user_trace(error):
    """The part of an error's traceback that is not the kernel's own; all of it when there is no other."""
    trace = error.__traceback__
    while trace and (trace.tb_frame.f_code is CALL or trace.tb_frame.f_globals.get("__name__", "").startswith("apus_kernel.")):
        trace = trace.tb_next
    return trace or error.__traceback__


def limit_message(limit, elapsed):
    """The message of an interrupt at the task's limit; None before the limit, when a client has asked for it."""
    return f"the task has run for {elapsed:.1f} s, longer than its limit of {limit:g} s" if elapsed >= limit else None


def shared_memory(settings):
    """The memory by which large parts are lent; None where the engine does not offer it."""
    if "memory" not in settings:
        return None
    from apus_kernel.memory import SharedMemory

    return SharedMemory(settings["memory"])


def end_child(error):
    """Ends a process that user code forked and that has come to the end of the code that forked it."""
    status = 0
    try:
        if isinstance(error, SystemExit):
            if isinstance(error.code, int):
                status = error.code & 0xFF
            elif error.code is not None:
                print(error.code, file=sys.stderr)
                status = 1
        elif error is not None:
            status = 1
            lines = traceback.format_exception(type(error), error, user_trace(error))
            write_all(2, "".join(lines).encode("utf-8", "backslashreplace"))
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def watch_engine(pipe):
    """Ends this process when the engine's process is gone, for whatever reason."""
    try:
        # The system itself then kills this process, even if user code holds the interpreter's lock.
        import fcntl

        if hasattr(fcntl, "F_SETSIG"):
            fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
            fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
            fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
    except (ImportError, OSError):
        pass

    # A process that user code forks does not watch the engine.
    os.register_at_fork(after_in_child=lambda: os.close(pipe))

    def wait():
        # Nothing is ever written there, so this returns at the end of the file.
        os.read(pipe, 1)
        os._exit(1)

    threading.Thread(target=wait, name="apus-watch", daemon=True).start()


def main(sock, settings):
    import faulthandler

    watch_engine(4)
    faulthandler.enable(2)
    kernel = Kernel(sock, settings)
    kernel.serve()
    kernel.publisher.flush()
