"""The event loop of the kernel: what user code starts in it goes on between requests.

Stock engines run their requests inside a running loop, so `asyncio.create_task` works in a cell and in a call. Here a
request runs outside of it, which costs nothing, and the loop is only shown as the running one; it runs while the kernel
waits, and while a request awaits something. Because nothing of it is on the stack, `asyncio.run` works as well, which stock
engines refuse.
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

# A callback that takes longer than this many seconds holds the loop up, and is what an interrupt is for.
HELD_UP = 0.1
# So many seconds may what an interrupted request awaited take to end.
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
        self._polls = {}  # descriptor: what waits for it and for this loop's own
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
        """Does nothing: the loop is the kernel's, and lives as long."""

    __del__ = close

    def let_loops_run(self):
        """Makes `asyncio.run` and the like do where this loop is only shown as running, for which they would refuse."""
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
        """Waits for something to read, or until something in the loop calls `leave`, and runs what there is to run meanwhile."""
        self._is_readable = False
        while not (self._is_readable or self._is_left):
            if self._ready or self._scheduled:
                self._run_with_reader(descriptor)
            else:
                self._poll(descriptor)

    def leave(self):
        """The interpreter ends: the loop does not run between requests any more."""
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
        """Waits outside of the loop, which is cheaper, until it has something to do."""
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
        """Runs what a request awaits, and what else there is in the loop, until it ends."""
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
        """Ends a task that nobody waits for any more; one that will not end goes on by itself."""
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
        """Ends what a request awaits, by cancelling it. False where the interrupt must be raised here and now instead."""
        task = self._awaited
        if task is None or not super().is_running() or self.interruption or self.is_held_up:
            return False
        if asyncio.current_task(self) is task:
            return False
        self.interruption = error
        self.call_soon_threadsafe(task.cancel)
        since = self._selector.busy_since
        if since is not None:
            # Something else is running at this moment. If that holds the loop up, it must be interrupted itself.
            timer = threading.Timer(2 * HELD_UP, self._interrupt_again, [since])
            timer.daemon = True
            timer.start()
        return True

    def _interrupt_again(self, since):
        if self._selector.busy_since == since:
            os.kill(os.getpid(), signal.SIGINT)

    # A process that user code forked

    def _leave_to_parent(self):
        """In the child: what is in the loop is the parent's to run, and the selector's descriptor is shared with it."""
        self._polls = {}
        self._is_shown = False
        self._selector = Selector()
        self._close_self_pipe()
        self._make_self_pipe()
        self._scheduled.clear()
        for handle in self._ready:
            handle.cancel()
        if super().is_running():
            # Forked by a task or a callback: when that has ended, so has the child's run of the loop.
            self.call_soon(self.stop)
