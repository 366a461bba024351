"""IPython's shell inside the kernel, which publishes output that a terminal's shell would print."""

import asyncio
import logging
import os
import sys
import types

from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.error import StdinNotImplementedError
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
    loop = Any()
    last_traceback = Any()
    no_input = StdinNotImplementedError

    def init_instance_attrs(self):
        super().init_instance_attrs()
        # Cells wait on the kernel's own loop, also after `%autoawait asyncio`.
        self.loop_runner_map = {**self.loop_runner_map, "asyncio": (self.loop.wait_for, True)}
        self.loop_runner = self.loop.wait_for

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
        self.loop.leave()
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

    def _get_exc_info(self, exc_tuple=None):
        kind, error, trace = super()._get_exc_info(exc_tuple)
        interruption = self._interruption(error)
        return (type(interruption), interruption, trace) if interruption else (kind, error, trace)

    def _interruption(self, error):
        """The interrupt that cancelled the task which a cell awaited; None for other errors."""
        return self.loop.interruption if isinstance(error, asyncio.CancelledError) else None

    # What the kernel asks of a shell.

    def run(self, code, silent, store_history):
        """Runs a cell; gives the error that ended it."""
        self.loop.interruption = None
        result = self.run_cell(code, store_history=store_history, silent=silent)
        error = result.error_before_exec if result.error_before_exec is not None else result.error_in_exec
        return self._interruption(error) or error

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
        """Answers a front end's request that runs no code; None for a request that gets no answer."""
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
    """The configuration from the profile's files and the command line."""
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
    # An engine's cells are not kept on disk, and a database in memory would cost a thread.
    config.HistoryManager.enabled = False
    for trait, value in config.IPKernelApp.items():
        config.InteractiveShellApp.setdefault(trait, value)
    return config


def make_shell(publisher, calls, kernel, loop, settings):
    config = configuration(settings)
    profile = {}
    if settings.get("profile_dir") and os.path.isdir(settings["profile_dir"]):
        from IPython.core.profiledir import ProfileDir

        profile["profile_dir"] = ProfileDir(location=settings["profile_dir"], config=config)
    module = types.ModuleType("__main__", "Automatically created module for IPython interactive environment")
    shell = KernelShell.instance(
        config=config, publisher=publisher, kernel=kernel, loop=loop, data_pub=DataPublisher(calls), user_module=module, **profile
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
