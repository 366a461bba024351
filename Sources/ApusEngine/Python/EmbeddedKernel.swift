// Made from kernel/*.py, until the package embeds those files itself (`.embedInCode`, which makes the same names).

// swift-format-ignore-file
enum PackageResources {
    static let boot_py: [UInt8] = Array(##"""
# What `python -c` runs: takes the kernel's sources from the engine and starts it.
import importlib.machinery, json, linecache, os, socket, struct, sys, types


class Sources:
    """Imports the modules that came in the first frame."""

    def __init__(self, texts):
        self.texts = texts

    def find_spec(self, name, path=None, target=None):
        short = name[len("apus_kernel."):]
        if name == f"apus_kernel.{short}" and short in self.texts:
            return importlib.machinery.ModuleSpec(name, self, origin=f"<{name}>")

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        text, name = self.texts[module.__name__.rpartition(".")[2]], f"<{module.__name__}>"
        linecache.cache[name] = (len(text), None, text.splitlines(True), name)
        exec(compile(text, name, "exec"), module.__dict__)


def boot():
    for descriptor in (3, 4):
        os.set_inheritable(descriptor, False)
    sock = socket.socket(fileno=3)

    # Not a byte more than the first frame: what follows is the kernel's.
    def take(count):
        data = b""
        while len(data) < count:
            piece = sock.recv(count - len(data))
            if not piece:
                sys.exit("the engine is gone")
            data += piece
        return data

    (count,) = struct.unpack("<I", take(4))
    lengths = struct.unpack(f"<{count}Q", take(8 * count))
    texts, settings = (json.loads(take(length)) for length in lengths)
    package = types.ModuleType("apus_kernel")
    package.__path__ = []
    sys.modules["apus_kernel"] = package
    sys.meta_path.append(Sources(texts))
    from apus_kernel.kernel import main

    main(sock, settings)


boot()
"""##.utf8)
    static let calls_py: [UInt8] = Array(##"""
"""Calls as clients send them, and results as they expect them.

With ipyparallel in this interpreter its own code reads and writes them, so that whatever its users
have registered there (dill, cloudpickle, their own canning) works. Without it, a stand-in of the same
names reads what Python's and Swift's clients send and writes plain pickles.
"""

import importlib
import importlib.util
import pickle
import sys
import types


class Calls:
    """Reads requests' buffers and writes results'."""

    def __init__(self, publisher):
        self._publisher = publisher
        self._serialize = None

    def prepare(self):
        """Imports what the first call would otherwise wait for."""
        if self._serialize is None:
            if importlib.util.find_spec("ipyparallel") is not None:
                self._serialize = importlib.import_module("ipyparallel.serialize")
            else:
                self._serialize = stand_in()
            self._offer_publication()
        return self._serialize

    def unpack(self, buffers, namespace):
        """The function, its arguments and its keyword arguments."""
        return self.prepare().unpack_apply_message(buffers, namespace)

    def pack(self, value):
        return self.prepare().serialize_object(value)

    def publish_data(self, data):
        """Publishes a dictionary of objects while a task runs: ipyparallel's `datapub`."""
        self._publisher.publish("datapub", "data_message", {"keys": list(data)}, buffers=self.pack(data))

    def _offer_publication(self):
        # ipyparallel's own looks for ipykernel's shell, which is not here.
        module = types.ModuleType("ipyparallel.engine.datapub", "Publishing native (typically pickled) objects.")
        module.publish_data = self.publish_data
        module.ZMQDataPublisher = type("ZMQDataPublisher", (), {"publish_data": lambda _, data: self.publish_data(data)})
        sys.modules["ipyparallel.engine.datapub"] = module


# What follows stands in for ipyparallel where it is not installed.


class CannedObject:
    """An object in the form in which it crosses: state to rebuild it from."""

    def get_object(self, namespace):
        raise TypeError(f"a {type(self).__name__} needs ipyparallel in this interpreter: {sys.executable}")


class Reference(CannedObject):
    def get_object(self, namespace):
        return eval(self.name, namespace)


class CannedBytes(CannedObject):
    def __init__(self, data):
        self.buffers = [data]

    def get_object(self, namespace):
        return bytes(self.buffers[0])


class CannedMemoryView(CannedBytes):
    def get_object(self, namespace):
        return memoryview(self.buffers[0])


class CannedArray(CannedObject):
    def __init__(self, array):
        import numpy

        self.shape = array.shape
        self.dtype = array.dtype.descr if array.dtype.fields else array.dtype.str
        self.pickled = sum(array.shape) == 0 or array.dtype.hasobject
        if self.pickled:
            self.buffers = [pickle.dumps(array)]
        else:
            self.buffers = [numpy.ascontiguousarray(array, dtype=None)]

    def get_object(self, namespace):
        import numpy

        if self.pickled:
            return pickle.loads(self.buffers[0])
        return numpy.frombuffer(self.buffers[0], dtype=self.dtype).reshape(self.shape)


class CannedCell(CannedObject):
    def get_object(self, namespace):
        return types.CellType(uncan(self.cell_contents, namespace))


class CannedPartial(CannedObject):
    def get_object(self, namespace):
        import functools

        keywords = {name: uncan(value, namespace) for name, value in self.keywords.items()}
        return functools.partial(
            uncan(self.func, namespace), *(uncan(value, namespace) for value in self.args), **keywords
        )


class CannedFunction(CannedObject):
    def get_object(self, namespace):
        helper = HELPERS.get((self.module, self.__name__))
        if helper:
            return helper(namespace)
        if self.module and self.module != "__main__":
            namespace = importlib.import_module(self.module).__dict__
        closure = getattr(self, "closure", None)
        function = types.FunctionType(
            self.code,
            namespace,
            self.__name__,
            tuple(uncan(value, namespace) for value in self.defaults) if self.defaults else None,
            tuple(uncan(cell, namespace) for cell in closure) if closure else None,
        )
        keywords = getattr(self, "kwdefaults", None)
        if keywords:
            function.__kwdefaults__ = {name: uncan(value, namespace) for name, value in keywords.items()}
        function.__annotations__ = getattr(self, "annotations", None) or {}
        return function


def code_ctor(*fields):
    return types.CodeType(*fields)


def push_into(namespace):
    def push(**values):
        for name, value in values.items():
            namespace["_apus_value"] = value
            exec(f"{name} = _apus_value", namespace)
        namespace.pop("_apus_value", None)

    return push


def pull_from(namespace):
    def pull(keys):
        if isinstance(keys, (list, tuple, set)):
            return [eval(key, namespace) for key in keys]
        return eval(keys, namespace)

    return pull


def map_all(namespace):
    return lambda function, *sequences: list(map(function, *sequences))


def map_scattered(namespace):
    return lambda function, *names: list(map(function, *(namespace.pop(name) for name in names)))


# ipyparallel's own helpers, which its client sends as code that imports ipyparallel.
HELPERS = {
    ("ipyparallel.util", "_push"): push_into,
    ("ipyparallel.util", "_pull"): pull_from,
    ("ipyparallel.client.remotefunction", "_map"): map_all,
    ("ipyparallel.client.view", "_broadcast_map"): map_scattered,
}

SEQUENCES = (list, tuple, set)
# Only so few elements are looked at one by one; clients count the same way.
ITEM_LIMIT = 64
# Smaller blocks stay inside the pickle.
BLOCK_LIMIT = 1024


def can(value):
    if type(value) is bytes:
        return CannedBytes(value)
    if type(value) is memoryview:
        return CannedMemoryView(value)
    numpy = sys.modules.get("numpy")
    if numpy and type(value) is numpy.ndarray:
        return CannedArray(value)
    return value


def uncan(value, namespace):
    if isinstance(value, CannedObject):
        return value.get_object(namespace)
    if type(value) in SEQUENCES and len(value) < ITEM_LIMIT:
        return type(value)(uncan(item, namespace) for item in value)
    if type(value) is dict and len(value) < ITEM_LIMIT:
        return {key: uncan(item, namespace) for key, item in value.items()}
    return value


def elements(value):
    """Those that may have blocks of their own, in the order in which the blocks follow."""
    if type(value) in SEQUENCES and len(value) < ITEM_LIMIT:
        return list(value)
    if type(value) is dict and len(value) < ITEM_LIMIT:
        return [value[key] for key in sorted(value)]
    return [value]


def serialize_object(value):
    if type(value) in SEQUENCES and len(value) < ITEM_LIMIT:
        canned = type(value)([can(item) for item in value])
    elif type(value) is dict and len(value) < ITEM_LIMIT:
        canned = {key: can(value[key]) for key in sorted(value)}
    else:
        canned = can(value)
    blocks = []
    for item in elements(canned):
        for index, block in enumerate(getattr(item, "buffers", ()) if isinstance(item, CannedObject) else ()):
            if memoryview(block).nbytes > BLOCK_LIMIT:
                item.buffers[index] = None
                blocks.append(block)
            else:
                item.buffers[index] = bytes(block)
    return [pickle.dumps(canned), *blocks]


def deserialize_object(buffers, namespace):
    buffers = list(buffers)
    canned = pickle.loads(buffers.pop(0))
    for item in elements(canned):
        if isinstance(item, CannedObject):
            for index, block in enumerate(getattr(item, "buffers", None) or ()):
                if block is None:
                    item.buffers[index] = buffers.pop(0)
    return uncan(canned, namespace), buffers


def unpack_apply_message(buffers, namespace):
    if len(buffers) < 2:
        raise ValueError("a call has two buffers at least")
    function, buffers = deserialize_object(buffers, namespace)
    counts = pickle.loads(buffers[0])
    rest, keyword_buffers = buffers[1 : 1 + counts["narg_bufs"]], buffers[1 + counts["narg_bufs"] :]
    arguments = []
    for _ in range(counts["nargs"]):
        value, rest = deserialize_object(rest, namespace)
        arguments.append(value)
    keywords = {}
    for key in counts["kw_keys"]:
        keywords[key], keyword_buffers = deserialize_object(keyword_buffers, namespace)
    if rest or keyword_buffers:
        raise ValueError("a call has buffers that no argument uses")
    return function, tuple(arguments), keywords


def use_pickle():
    pass


def stand_in():
    """Puts these classes where the pickles of ipyparallel's clients look for them."""
    package = types.ModuleType("ipyparallel", "Stands in for ipyparallel, which is not installed here.")
    package.__path__ = []
    serialize = types.ModuleType("ipyparallel.serialize")
    serialize.__path__ = []
    canning = types.ModuleType("ipyparallel.serialize.canning")
    codeutil = types.ModuleType("ipyparallel.serialize.codeutil")
    engine = types.ModuleType("ipyparallel.engine")
    engine.__path__ = []
    for kind in (
        CannedObject, Reference, CannedBytes, CannedMemoryView, CannedArray, CannedCell, CannedPartial, CannedFunction,
    ):
        kind.__module__ = canning.__name__
        setattr(canning, kind.__name__, kind)
    use_pickle.__module__ = canning.__name__
    canning.use_pickle = use_pickle
    codeutil.code_ctor = code_ctor
    for function in (serialize_object, deserialize_object, unpack_apply_message):
        setattr(serialize, function.__name__, function)
    package.serialize, serialize.canning, serialize.codeutil = serialize, canning, codeutil
    for module in (package, serialize, canning, codeutil, engine):
        sys.modules[module.__name__] = module
    return serialize
"""##.utf8)
    static let channel_py: [UInt8] = Array(##"""
"""Frames between the engine's process and this one, over a socket pair.

A frame is a number of parts, the length of each, and the parts: little-endian integers, four bytes
for the number and eight for a length. Nothing is packed or copied that the wire carries as it is.
"""

import os
import signal
import struct
import threading
import traceback

# The system takes this many parts in one call (IOV_MAX is 1024 at least on Linux and macOS).
PARTS_AT_ONCE = 512


class Interrupts:
    """SIGINT interrupts a task, and nothing else.

    An idle kernel ignores it, and one that is in the middle of a frame waits for the frame's end:
    half a frame could never be understood again.
    """

    def __init__(self):
        self.task_runs = False
        self.limit_message = None
        self._writing = 0
        self._waits = False

    def install(self):
        signal.signal(signal.SIGINT, self._handle)

    def _handle(self, number, frame):
        if not self.task_runs:
            return
        if self._writing:
            self._waits = True
        else:
            self._interrupt()

    def _interrupt(self):
        self._waits = False
        message = self.limit_message() if self.limit_message else None
        raise KeyboardInterrupt(message) if message else KeyboardInterrupt()

    def __enter__(self):
        # Handlers run on the main thread only, so only its own frames are in danger.
        if threading.current_thread() is threading.main_thread():
            self._writing += 1

    def __exit__(self, *error):
        if threading.current_thread() is threading.main_thread():
            self._writing -= 1
            if self._waits and not self._writing and self.task_runs:
                self._interrupt()


class Channel:
    """Reads frames on one thread; writes them from any."""

    def __init__(self, sock, interrupts):
        self.socket = sock
        self.interrupts = interrupts
        self._reader = sock.makefile("rb", buffering=1 << 16)
        self._lock = threading.RLock()
        self._process = os.getpid()

    @property
    def is_ours(self):
        """False in a process that user code forked: its writes would tear our frames."""
        return os.getpid() == self._process

    def receive(self):
        """The next frame's parts; None when the engine has closed its end."""
        self._wait()
        head = self._reader.read(4)
        if len(head) < 4:
            return None
        (count,) = struct.unpack("<I", head)
        lengths = struct.unpack(f"<{count}Q", self._reader.read(8 * count))
        return [self._reader.read(length) for length in lengths]

    def _wait(self):
        """Waits for a frame or the end. What a signal handler of user code raises meanwhile concerns no task."""
        while True:
            try:
                self._reader.peek(1)
                return
            except OSError:
                return
            except BaseException:
                traceback.print_exc()

    def send(self, *parts):
        """Sends bytes, or whatever has a buffer of them."""
        if not self.is_ours:
            return
        views = [part if isinstance(part, bytes) else memoryview(part).cast("B") for part in parts]
        head = struct.pack(f"<I{len(views)}Q", len(views), *map(len, views))
        with self.interrupts, self._lock:
            self._write([head, *views])

    def _write(self, views):
        while views:
            written = self.socket.sendmsg(views[:PARTS_AT_ONCE])
            done = 0
            while done < len(views) and written >= len(views[done]):
                written -= len(views[done])
                done += 1
            views = views[done:]
            if views and written:
                views[0] = memoryview(views[0])[written:]
"""##.utf8)
    static let ipython_shell_py: [UInt8] = Array(##"""
"""IPython's shell inside the kernel, publishing where a terminal's shell would print."""

import logging
import os
import sys
import types

from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.shellapp import InteractiveShellApp
from traitlets import Any, Type
from traitlets.config import Config
from traitlets.config.loader import DeferredConfigString, JSONFileConfigLoader, PyFileConfigLoader


class ResultHook(DisplayHook):
    """Publishes a cell's value as `execute_result`."""

    def start_displayhook(self):
        self._is_active = True
        self._content = {"execution_count": self.prompt_count, "data": {}, "metadata": {}}

    def write_output_prompt(self):
        pass

    def write_format_data(self, format_dict, md_dict=None):
        self._content["data"] = format_dict
        self._content["metadata"] = md_dict or {}

    def finish_displayhook(self):
        if self._content["data"]:
            self.shell.publisher.publish("execute_result", "execute_result", self._content)
        self._is_active = False


class RichPublisher(DisplayPublisher):
    """Publishes what `display()` is given."""

    def publish(self, data, metadata=None, source=None, *, transient=None, update=False, **more):
        self._validate_data(data, metadata or {})
        self.shell.publisher.publish(
            "displaypub",
            "update_display_data" if update else "display_data",
            {"data": data, "metadata": metadata or {}, "transient": transient or {}},
        )

    def clear_output(self, wait=False):
        self.shell.publisher.publish("displaypub", "clear_output", {"wait": wait})


class DataPublisher:
    """ipyparallel's older name for publishing objects: `get_ipython().data_pub.publish_data({...})`."""

    def __init__(self, calls):
        self.publish_data = calls.publish_data


class KernelShell(InteractiveShell):
    displayhook_class = Type(ResultHook)
    display_pub_class = Type(RichPublisher)
    publisher = Any()
    kernel = Any()
    data_pub = Any()
    last_traceback = Any()

    def init_environment(self):
        # Pagers would wait for a terminal.
        os.environ["PAGER"] = "cat"
        os.environ["GIT_PAGER"] = "cat"
        os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")

    def enable_gui(self, gui=None):
        if gui not in (None, "inline"):
            from IPython.core.error import UsageError

            raise UsageError(f"an engine has no event loop of {gui!r}; plots appear with %matplotlib inline")

    def init_hooks(self):
        super().init_hooks()
        from IPython.core import page

        self.set_hook("show_in_pager", page.as_hook(self._page), 99)

    def _page(self, text, start=0, screen_lines=0, pager_cmd=None):
        data = text if isinstance(text, dict) else {"text/plain": text}
        self.payload_manager.write_payload({"source": "page", "data": data, "start": max(0, start)})

    def ask_exit(self):
        self.exit_now = True
        self.payload_manager.write_payload({"source": "ask_exit", "keepkernel": False})

    def set_next_input(self, text, replace=False):
        self.payload_manager.write_payload({"source": "set_next_input", "text": text, "replace": replace})

    def _showtraceback(self, etype, evalue, stb):
        self.last_traceback = list(stb)
        try:
            text = str(evalue)
        except Exception as error:
            text = f"(its text cannot be had: {error!r})"
        self.publisher.publish("error", "error", {"ename": etype.__name__, "evalue": text, "traceback": self.last_traceback})

    # What the kernel asks of a shell.

    def run(self, code, silent, store_history):
        """Runs a cell; gives the error that ended it."""
        result = self.run_cell(code, store_history=store_history, silent=silent)
        return result.error_before_exec if result.error_before_exec is not None else result.error_in_exec

    def show_error(self, error, trace):
        """Publishes an error with that traceback; gives the lines."""
        self.last_traceback = None
        self.showtraceback((type(error), error, trace), tb_offset=0)
        return self.take_traceback()

    def take_traceback(self):
        lines, self.last_traceback = self.last_traceback, None
        return lines

    def wait_for(self, coroutine):
        return self.loop_runner(coroutine)

    def take_payload(self):
        payload = self.payload_manager.read_payload()
        self.payload_manager.clear_payload()
        return payload

    def clear(self):
        self.reset(False)

    def answer(self, kind, content):
        """Answers what front ends ask besides running code; None for what is not answered."""
        if kind == "complete_request":
            from IPython.core.completer import provisionalcompleter, rectify_completions

            code, cursor = content.get("code", ""), content.get("cursor_pos")
            cursor = len(code) if cursor is None else cursor
            with provisionalcompleter():
                found = list(rectify_completions(code, self.Completer.completions(code, cursor)))
            start, end = (found[0].start, found[0].end) if found else (cursor, cursor)
            matches = [completion.text for completion in found]
            return {"matches": matches, "cursor_start": start, "cursor_end": end, "metadata": {}}
        if kind == "inspect_request":
            from IPython.utils.tokenutil import token_at_cursor

            name = token_at_cursor(content.get("code", ""), content.get("cursor_pos", 0))
            try:
                data = self.object_inspect_mime(name, detail_level=content.get("detail_level", 0))
            except KeyError:
                return {"found": False, "data": {}, "metadata": {}}
            return {"found": True, "data": data, "metadata": {}}
        if kind == "is_complete_request":
            state, indent = self.input_transformer_manager.check_complete(content.get("code", ""))
            return {"status": state, **({"indent": " " * indent} if state == "incomplete" else {})}
        if kind == "history_request":
            cells = self.history_manager.input_hist_raw
            last = content.get("n") or len(cells)
            return {"history": [(0, number, cells[number]) for number in range(1, len(cells))][-last:]}
        return None


class StartUp(InteractiveShellApp):
    """What IPython does before the first cell: extensions, start-up files, PYTHONSTARTUP, lines and files to run."""

    log = logging.getLogger("apus.kernel")
    profile_dir = Any()
    ipython_dir = ""
    extra_args = []
    name = "ipengine"

    def exit(self, status=0):
        sys.exit(status)


def configuration(settings):
    """What the profile's files and the command line set."""
    config = Config()
    folder = settings.get("profile_dir")
    paths = [os.path.join(folder, name) for name in ("ipython_config", "ipengine_config")] if folder else []
    files = [path + ending for path in paths for ending in (".py", ".json")] + list(settings.get("config_files", ()))
    for path in files:
        if os.path.exists(path):
            loader = JSONFileConfigLoader if path.endswith(".json") else PyFileConfigLoader
            try:
                config.merge(loader(os.path.basename(path), path=os.path.dirname(path) or ".").load_config())
            except Exception as error:
                print(f"{path} is passed over: {error!r}", file=sys.stderr)
    for owner, trait, text in settings.get("traits", ()):
        config[owner][trait] = DeferredConfigString(text)
    # Nothing of an engine's cells is kept on disk, and a database in memory would cost a thread.
    config.HistoryManager.enabled = False
    for trait, value in config.IPKernelApp.items():
        config.InteractiveShellApp.setdefault(trait, value)
    return config


def make_shell(publisher, calls, kernel, settings):
    config = configuration(settings)
    profile = {}
    if settings.get("profile_dir") and os.path.isdir(settings["profile_dir"]):
        from IPython.core.profiledir import ProfileDir

        profile["profile_dir"] = ProfileDir(location=settings["profile_dir"], config=config)
    module = types.ModuleType("__main__", "Automatically created module for IPython interactive environment")
    shell = KernelShell.instance(
        config=config, publisher=publisher, kernel=kernel, data_pub=DataPublisher(calls), user_module=module, **profile
    )
    start = StartUp(config=config, shell=shell, profile_dir=shell.profile_dir)
    start.ipython_dir = shell.ipython_dir
    lines, files = list(start.exec_lines), list(start.exec_files)
    start.exec_lines = list(settings.get("lines", ())) + lines
    start.exec_files = files + list(settings.get("files", ()))
    start.init_path()
    start.init_gui_pylab()
    start.init_extensions()
    start.init_code()
    return shell
"""##.utf8)
    static let kernel_py: [UInt8] = Array(##"""
"""The Python side of an engine: runs what the engine's process hands it, one request at a time.

The engine's process holds everything that must not depend on user code: sockets, heartbeats, the queue,
aborts, time limits. It starts this interpreter with one end of a socket pair and speaks frames over it:

    to us      boot: sources, settings (JSON)
               R, type, metadata, content, buffers …     a request
               I, id, uuid                               who we are on the wire
               C                                         clear the namespace
    from us    S                                         ready
               P, topic, type, metadata, content, buffers …    a message to publish for the request
               R, status, error's name, flags, content, buffers …    the request's reply

The engine's end closing means: finish and go.
"""

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

from apus_kernel.calls import Calls
from apus_kernel.channel import Channel, Interrupts
from apus_kernel.output import Publisher, Stream, packed


CALL = compile("function(*arguments, **keywords)", "<call>", "eval")


class EngineInfo:
    """What user code may ask of `get_ipython().kernel`."""

    def __init__(self):
        self.engine_id = -1
        self.ident = ""
        self.shell = None

    @property
    def int_id(self):
        return self.engine_id

    def get_engine_info(self, method=None):
        info = {"engine_uuid": self.ident, "engine_id": self.engine_id}
        return {**info, "method": method} if method else info


class Kernel:
    def __init__(self, sock, settings):
        self.interrupts = Interrupts()
        self.channel = Channel(sock, self.interrupts)
        self.publisher = Publisher(self.channel)
        self.calls = Calls(self.publisher)
        self.info = EngineInfo()
        self.interrupts.install()
        self.shell = self._make_shell(settings)
        self.info.shell = self.shell
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout = Stream(self.publisher, "stdout", 1)
        sys.stderr = Stream(self.publisher, "stderr", 2)
        builtins.input = refuse_input
        getpass.getpass = refuse_input

    def _make_shell(self, settings):
        if settings.get("mpi"):
            # MPI's start belongs to all processes at once, so before anything that may take its time.
            settings.setdefault("lines", []).insert(0, settings["mpi"])
        if settings.get("plain") or importlib.util.find_spec("IPython") is None:
            from apus_kernel.plain_shell import PlainShell

            shell = PlainShell(self.publisher, settings)
            shell.kernel = self.info
            return shell
        from apus_kernel.ipython_shell import make_shell

        return make_shell(self.publisher, self.calls, self.info, settings)

    def serve(self):
        self.channel.send(b"S", json.dumps(self._capabilities()).encode())
        self.calls.prepare()
        while True:
            parts = self.channel.receive()
            if parts is None:
                return
            kind = parts[0]
            if kind == b"R":
                self._run(parts[1], parts[2], parts[3], parts[4:])
                if self.shell.exit_now:
                    return
            elif kind == b"C":
                self._clear()
            elif kind == b"I":
                self.info.engine_id, self.info.ident = int(parts[1]), parts[2].decode()

    def _capabilities(self):
        ipython = "IPython" in sys.modules
        return {"python": platform.python_version(), "executable": sys.executable, "ipython": ipython}

    def _clear(self):
        try:
            self.shell.clear()
        except Exception as error:
            print(f"clearing the namespace: {error!r}", file=sys.stderr)

    # One request

    def _run(self, kind, metadata, content, buffers):
        method = "apply" if kind == b"apply_request" else "execute"
        runners = {b"apply_request": self._apply, b"execute_request": self._execute}
        runner = runners.get(kind, self._answer)
        # Only our own clients write what we would read there.
        metadata = json.loads(metadata) if b'"apus_' in metadata else {}
        started, limit = time.monotonic(), metadata.get("apus_limit")
        if limit:
            self.interrupts.limit_message = lambda: limit_message(limit, time.monotonic() - started)
        name, flags, results = b"", b"", ()
        try:
            try:
                self.interrupts.task_runs = True
                reply, flags, results = runner(kind, metadata, content, buffers)
            finally:
                self.interrupts.task_runs = False
        except BaseException as error:
            reply, results = self._error(error, method, self._show(error)), ()
            if method == "execute":
                reply.update(execution_count=self.shell.execution_count - 1, user_expressions={}, payload=[])
        self.interrupts.limit_message = None
        if reply is None:
            status, content = b"none", b"{}"
        elif isinstance(reply, bytes):
            status, content = b"ok", reply
        else:
            status = b"error" if reply.get("status") == "error" else b"ok"
            name, content = reply.get("ename", "").encode("utf-8", "replace"), packed(reply)
        self.publisher.flush()
        self.channel.send(b"R", status, name, flags, content, *results)

    def _show(self, error):
        try:
            return self.shell.show_error(error, user_trace(error))
        except BaseException as problem:
            # An error whose own code fails must not take the kernel with it.
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
        # From the namespace and not from here, for functions such as eval() and globals().
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
        kind = kind.decode()
        if kind == "kernel_info_request":
            return self._kernel_info(), b"", ()
        if kind == "comm_info_request":
            return {"status": "ok", "comms": {}}, b"", ()
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
    """Why the engine interrupts a task, when it was not a client's wish."""
    return f"the task has run for {elapsed:.1f} s, longer than its limit of {limit:g} s" if elapsed >= limit else None


def refuse_input(prompt="", *more, **options):
    raise RuntimeError(
        f"input() was called with {str(prompt)!r}, and nobody can answer: an engine has no keyboard. "
        "Ask in the client, and push the answer"
    )


def watch_engine(pipe):
    """Ends this process when the engine's process is gone, however it went."""
    try:
        # The system itself kills us then, even if user code holds the interpreter's lock.
        import fcntl

        if hasattr(fcntl, "F_SETSIG"):
            fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
            fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
            fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
    except (ImportError, OSError):
        pass

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
"""##.utf8)
    static let output_py: [UInt8] = Array(##"""
"""What a task shows: text on its streams, and messages of other kinds."""

import base64
import io
import json
import os
import threading

# Text waits this long for more to come with it, unless its task ends first.
FLUSH_SECONDS = 0.05
# More text than this does not wait.
FLUSH_CHARACTERS = 1 << 16


def plain(value):
    """Stands in for what JSON does not know."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode("ascii")
    for method in ("item", "tolist"):
        if hasattr(value, method):
            return getattr(value, method)()
    if isinstance(value, (set, frozenset)):
        return list(value)
    return str(value)


def finite(value):
    """The value with text in place of the numbers that JSON does not have."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return repr(value)
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def packed(content):
    try:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, default=plain)
    except (ValueError, TypeError):
        text = json.dumps(finite(content), ensure_ascii=False, default=str)
    return text.encode("utf-8", "backslashreplace")


class Publisher:
    """Publishes messages of the task that runs, or ran last, in the order in which they are made."""

    def __init__(self, channel):
        self.channel = channel
        self._lock = threading.RLock()
        self._texts = []  # [stream name, pieces], oldest first
        self._length = 0
        self._wake = threading.Event()
        self._flusher = None
        # A fork in the middle of a write must not leave its child a lock that nobody opens.
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self):
        self._lock = threading.RLock()
        self._texts = []
        self._flusher = None

    def publish(self, topic, kind, content, metadata=None, buffers=()):
        self.flush()
        self.channel.send(
            b"P", topic.encode(), kind.encode(), packed(metadata) if metadata else b"{}", packed(content), *buffers
        )

    def write(self, name, text):
        with self.channel.interrupts, self._lock:
            if self._texts and self._texts[-1][0] == name:
                self._texts[-1][1].append(text)
            else:
                self._texts.append((name, [text]))
            self._length += len(text)
            if self._length > FLUSH_CHARACTERS:
                self.flush()
            elif not self._wake.is_set():
                self._wake_flusher()

    def flush(self):
        with self.channel.interrupts, self._lock:
            texts, self._texts, self._length = self._texts, [], 0
            for name, pieces in texts:
                self.channel.send(b"P", name.encode(), b"stream", b"{}", packed({"name": name, "text": "".join(pieces)}))

    def _wake_flusher(self):
        if self._flusher is None:
            self._flusher = threading.Thread(target=self._flush_now_and_then, name="apus-output", daemon=True)
            self._flusher.start()
        self._wake.set()

    def _flush_now_and_then(self):
        while True:
            self._wake.wait()
            threading.Event().wait(FLUSH_SECONDS)
            self._wake.clear()
            try:
                self.flush()
            except OSError:
                return


class Stream(io.TextIOBase):
    """Stands at sys.stdout or sys.stderr. What is written to the descriptor itself the engine reads by a pipe."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, publisher, name, descriptor):
        self._publisher = publisher
        self.name = name
        self._descriptor = descriptor

    def write(self, text):
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if text:
            if self._publisher.channel.is_ours:
                self._publisher.write(self.name, text)
            else:
                os.write(self._descriptor, text.encode("utf-8", "backslashreplace"))
        return len(text)

    def writelines(self, lines):
        self.write("".join(lines))

    def flush(self):
        if self._publisher.channel.is_ours:
            self._publisher.flush()

    def fileno(self):
        return self._descriptor

    def isatty(self):
        return False

    def writable(self):
        return True

    @property
    def buffer(self):
        return _Bytes(self)


class _Bytes(io.RawIOBase):
    """The stream for those who write bytes."""

    def __init__(self, stream):
        self._stream = stream

    def writable(self):
        return True

    def write(self, data):
        self._stream.write(bytes(data).decode("utf-8", "replace"))
        return len(data)

    def flush(self):
        self._stream.flush()
"""##.utf8)
    static let plain_shell_py: [UInt8] = Array(##"""
"""A namespace with cells, for interpreters without IPython: plain Python, no magics."""

import ast
import asyncio
import inspect
import linecache
import os
import sys
import traceback
import types


class PlainShell:
    """What the kernel asks of a shell, and no more."""

    def __init__(self, publisher, settings):
        self.publisher = publisher
        self.kernel = None
        self.exit_now = False
        self.execution_count = 1
        self._module = types.ModuleType("__main__")
        self._loop = None
        self._traceback = None
        self.user_ns = self._module.__dict__
        sys.modules["__main__"] = self._module
        self.clear()
        self._start(settings)

    def _start(self, settings):
        files = [os.environ.get("PYTHONSTARTUP", ""), *settings.get("files", ())]
        for name in files:
            if os.path.isfile(name):
                with open(name) as file:
                    self._run_at_start(compile(file.read(), name, "exec"))
        for line in settings.get("lines", ()):
            self._run_at_start(compile(line, "<startup>", "exec"))

    def _run_at_start(self, code):
        try:
            exec(code, self.user_ns)
        except Exception:
            traceback.print_exc()

    def clear(self):
        self.user_ns.clear()
        self.user_ns.update(__name__="__main__", __builtins__=__builtins__, __doc__=None)

    def run(self, code, silent, store_history):
        name = f"<cell {self.execution_count}>"
        linecache.cache[name] = (len(code), None, code.splitlines(True), name)
        try:
            tree = ast.parse(code, name)
            last = None
            if tree.body and isinstance(tree.body[-1], ast.Expr) and not silent:
                last = ast.Expression(tree.body.pop().value)
            self._evaluate(compile(tree, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT))
            if last is not None:
                self._show(self._evaluate(compile(last, name, "eval", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)))
            error = None
        except BaseException as raised:
            error = raised
            # The first frames are the kernel's own.
            trace = raised.__traceback__
            while trace and trace.tb_frame.f_globals is globals():
                trace = trace.tb_next
            self._traceback = self.show_error(raised, trace)
        if store_history:
            self.execution_count += 1
        return error

    def _evaluate(self, code):
        value = eval(code, self.user_ns)
        return self.wait_for(value) if code.co_flags & inspect.CO_COROUTINE else value

    def _show(self, value):
        if value is None:
            return
        self.user_ns["_"] = value
        data = {"text/plain": repr(value)}
        for kind, method in (("text/html", "_repr_html_"), ("image/png", "_repr_png_"), ("image/svg+xml", "_repr_svg_")):
            rich = getattr(value, method, None)
            if callable(rich) and not isinstance(value, type):
                data[kind] = rich()
        content = {"data": data, "metadata": {}, "execution_count": self.execution_count}
        self.publisher.publish("execute_result", "execute_result", content)

    def show_error(self, error, trace):
        lines = [line.rstrip("\n") for line in traceback.format_exception(type(error), error, trace)]
        self.publisher.publish(
            "error", "error", {"ename": type(error).__name__, "evalue": str(error), "traceback": lines}
        )
        return lines

    def take_traceback(self):
        lines, self._traceback = self._traceback, None
        return lines

    def wait_for(self, coroutine):
        if self._loop is None or self._loop.is_closed():
            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        return self._loop.run_until_complete(coroutine)

    def take_payload(self):
        return []

    def user_expressions(self, expressions):
        answers = {}
        for name, expression in expressions.items():
            try:
                data = {"text/plain": repr(eval(expression, self.user_ns))}
                answers[name] = {"status": "ok", "data": data, "metadata": {}}
            except Exception as error:
                answers[name] = {
                    "status": "error", "ename": type(error).__name__, "evalue": str(error), "traceback": [],
                }
        return answers

    def answer(self, kind, content):
        if kind == "complete_request":
            import rlcompleter

            code = content.get("code", "")
            cursor = content.get("cursor_pos", len(code))
            start = cursor
            while start and (code[start - 1].isalnum() or code[start - 1] in "_."):
                start -= 1
            completer = rlcompleter.Completer(self.user_ns)
            matches, number = [], 0
            while (match := completer.complete(code[start:cursor], number)) is not None:
                matches.append(match)
                number += 1
            return {"matches": matches, "cursor_start": start, "cursor_end": cursor, "metadata": {}}
        if kind == "inspect_request":
            return {"found": False, "data": {}, "metadata": {}}
        if kind == "is_complete_request":
            return {"status": "unknown"}
        if kind == "history_request":
            return {"history": []}
        return None
"""##.utf8)
}
