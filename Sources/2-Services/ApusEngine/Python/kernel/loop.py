"""The event loop of the kernel: tasks that user code starts in it go on between requests.

Stock engines run their requests inside a running loop, so `asyncio.create_task` works in a cell and in a call. Here a
request runs outside of the loop, which saves its cost, and the loop is only shown to asyncio as the running one; it runs while
the kernel waits, and while a request awaits something. Because the loop is not on the stack, `asyncio.run` works as well,
which stock engines refuse.
"""

import asyncio
import contextlib
import functools
import os
import select
import selectors
import signal
import threading
import time

# A callback that takes longer than this many seconds holds the loop up, and an interrupt is raised in it.
HELD_UP = 0.1
# How many seconds a task may take to end that an interrupted request awaited.
CLEAN_UP = 1


class Selector(selectors.DefaultSelector):
    """Knows since when the loop runs callbacks: `busy_since` is None while it waits."""

    busy_since = None

    def select(self, timeout=None):
        self.busy_since = None
        try:
            return super().select(timeout)
        finally:
            self.busy_since = time.monotonic()


class KernelLoop(asyncio.SelectorEventLoop):
    _is_shown = False

    def __init__(self):
        super().__init__(Selector())
        self._is_readable = self._is_left = False
        self._awaited = None  # the task that a request waits for
        self.interruption = None  # why that task was cancelled, if an interrupt was the reason
        self._polls = {}  # descriptor: an object that waits for it and for the loop's selector
        self._process = os.getpid()
        os.register_at_fork(after_in_child=self._leave_to_parent)

    # Shown as the running loop

    def show(self):
        self._is_shown = True
        asyncio._set_running_loop(self)

    def hide(self):
        self._is_shown = False
        asyncio._set_running_loop(None)

    @contextlib.contextmanager
    def set_aside(self):
        """Lets another loop, or this one, run in the middle of a request."""
        shown = self._is_shown and asyncio._get_running_loop() is self
        if shown:
            self.hide()
        try:
            yield
        finally:
            if shown:
                self.show()

    def is_running(self):
        return self._is_shown or super().is_running()

    def close(self):
        """Does nothing: the loop lives as long as the kernel."""

    __del__ = close

    def let_loops_run(self):
        """Makes `asyncio.run` and the like work while this loop is only shown as running; they would refuse otherwise."""
        asyncio.run = self._set_aside_for(asyncio.run)
        for name in ("run_forever", "run_until_complete"):
            setattr(asyncio.BaseEventLoop, name, self._set_aside_for(getattr(asyncio.BaseEventLoop, name)))
        if hasattr(asyncio, "Runner"):
            asyncio.Runner.run = self._set_aside_for(asyncio.Runner.run)

    def _set_aside_for(self, function):
        @functools.wraps(function)
        def run(*arguments, **options):
            with self.set_aside():
                return function(*arguments, **options)

        return run

    # Between requests

    def run_until_readable(self, descriptor):
        """Runs the loop until there is something to read, or until something in the loop calls `leave`."""
        self._is_readable = False
        while not (self._is_readable or self._is_left):
            if self._ready or self._scheduled:
                self._run_with_reader(descriptor)
            else:
                self._poll(descriptor)

    def leave(self):
        """Keeps the loop from running between requests any more, because the interpreter ends."""
        self._is_left = True
        if self._awaited is None and super().is_running():
            self.stop()

    def _run_with_reader(self, descriptor):
        self.add_reader(descriptor, self._note_readable)
        try:
            self.run_forever()
        finally:
            self.remove_reader(descriptor)

    def _note_readable(self):
        self._is_readable = True
        self.stop()

    def _poll(self, descriptor):
        """Waits outside of the loop, which is cheaper, until the loop has something to do or there is something to read."""
        if descriptor not in self._polls:
            self._polls[descriptor] = poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            poll.register(self._selector.fileno(), select.POLLIN)
        for found, _ in self._polls[descriptor].poll():
            if found == descriptor:
                self._is_readable = True
            else:
                self.call_soon(self.stop)
                self.run_forever()

    # While a request waits

    def wait_for(self, coroutine):
        """Runs the loop until the coroutine that a request awaits has ended."""
        task = self.create_task(coroutine)
        self.interruption, outer, self._awaited = None, self._awaited, task
        try:
            return self.run_until_complete(task)
        except BaseException as error:
            if os.getpid() != self._process and not task.done():
                # Something else in the loop forked this process, which ends here.
                raise SystemExit from None
            self._end(task)
            if isinstance(error, asyncio.CancelledError) and self.interruption:
                raise self.interruption from error
            raise
        finally:
            self._awaited = outer

    def _end(self, task):
        """Cancels a task that no request waits for any more; a task that does not end then goes on by itself."""
        if not task.done():
            task.cancel()
            self.run_until_complete(asyncio.wait({task}, timeout=CLEAN_UP))
        if task.done() and not task.cancelled():
            task.exception()

    # Interrupts

    @property
    def is_held_up(self):
        """Whether a callback has been running for long."""
        since = self._selector.busy_since
        return super().is_running() and since is not None and time.monotonic() - since > HELD_UP

    def take_interrupt(self, error):
        """Cancels the task that a request awaits. False where the interrupt must be raised at once instead."""
        task = self._awaited
        if task is None or not super().is_running() or self.interruption or self.is_held_up:
            return False
        if asyncio.current_task(self) is task:
            return False
        self.interruption = error
        self.call_soon_threadsafe(task.cancel)
        since = self._selector.busy_since
        if since is not None:
            # A callback is running at this moment. If it holds the loop up, it must be interrupted itself.
            timer = threading.Timer(2 * HELD_UP, self._interrupt_again, [since])
            timer.daemon = True
            timer.start()
        return True

    def _interrupt_again(self, since):
        if self._selector.busy_since == since:
            os.kill(os.getpid(), signal.SIGINT)

    # A process that user code forked

    def _leave_to_parent(self):
        """Empties the loop in a forked child, whose tasks are the parent's to run, and gives it a selector of its own."""
        self._polls = {}
        self._is_shown = False
        self._selector = Selector()
        self._close_self_pipe()
        self._make_self_pipe()
        self._scheduled.clear()
        for handle in self._ready:
            handle.cancel()
        if super().is_running():
            # A task or a callback has forked: when that has ended, the child's loop stops.
            self.call_soon(self.stop)
