"""Runs cells in a namespace, for interpreters without IPython: plain Python, no magics."""

import ast
import inspect
import linecache
import os
import sys
import traceback
import types


class StdinNotImplementedError(NotImplementedError):
    """Raised when a cell asks for input; IPython has an error of this name."""


class Leave:
    """The value of `exit` and `quit`: named or called, it ends the interpreter after the cell, as in IPython."""

    def __init__(self, shell):
        self._shell = shell

    def __call__(self, *status):
        self._shell.exit_now = True
        self._shell.loop.leave()

    def __repr__(self):
        self()
        return "the interpreter ends"


class PlainShell:
    """A shell with what the kernel needs, and no more."""

    no_input = StdinNotImplementedError

    def __init__(self, publisher, loop, settings):
        self.publisher = publisher
        self.kernel = None
        self.exit_now = False
        self.execution_count = 1
        self._module = types.ModuleType("__main__")
        self.loop, self.wait_for = loop, loop.wait_for
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
        leave = Leave(self)
        # multiprocessing reads `__spec__`.
        self.user_ns.update(
            __name__="__main__", __builtins__=__builtins__, __doc__=None, __spec__=None, exit=leave, quit=leave
        )

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
