"""Frames between the engine's process and this one, over a socket pair.

A frame is a number of parts, the length of each, and the parts: little-endian integers, four bytes
for the number and eight for a length. Nothing is packed or copied that the wire carries as it is.
A length with the highest bit set is of a part that is lent (memory.py); in its place stand eight bytes,
where in its file it begins.
"""

import os
import signal
import struct
import sys
import threading
import traceback

# The system takes this many parts in one call (IOV_MAX is 1024 at least on Linux and macOS).
PARTS_AT_ONCE = 512
# So many of a frame's parts are lent at most.
LOANS = 32
LENT = 1 << 63
# Parts of calls that are longer than clients put inside a pickle are memory that user code may write to.
WRITABLE = 1024


class Interrupts:
    """SIGINT interrupts a task, and nothing else.

    A kernel that runs none says that it missed the signal, for the engine may have meant a request that is
    on its way. One that is in the middle of a frame waits for the frame's end: half a frame could never be
    understood again.
    """

    def __init__(self):
        self.task_runs = False
        self.limit_message = None
        self.say_missed = None
        self._writing = 0
        self._waits = False

    def install(self, say_missed):
        self.say_missed = say_missed
        signal.signal(signal.SIGINT, self._handle)

    def _handle(self, number, frame):
        if self._writing:
            self._waits = True
        else:
            self._interrupt()

    def _interrupt(self):
        self._waits = False
        if not self.task_runs:
            self.say_missed()
            return
        message = self.limit_message() if self.limit_message else None
        raise KeyboardInterrupt(message) if message else KeyboardInterrupt()

    def __enter__(self):
        # Handlers run on the main thread only, so only its own frames are in danger.
        if threading.current_thread() is threading.main_thread():
            self._writing += 1

    def __exit__(self, *error):
        if threading.current_thread() is threading.main_thread():
            self._writing -= 1
            if self._waits and not self._writing:
                self._interrupt()


class Channel:
    """Reads frames on one thread; writes them from any."""

    def __init__(self, sock, interrupts, memory=None):
        self.socket = sock
        self.interrupts = interrupts
        self.memory = memory
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
        try:
            return [self._part(length) for length in lengths]
        except (MemoryError, OSError):
            # Half a request was read, and nothing behind it can be understood; the engine says that we are gone.
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)

    def _part(self, length):
        if length & LENT:
            self._reader.read(8)
            return self.memory.take(length - LENT)
        if length <= WRITABLE:
            return self._reader.read(length)
        part = bytearray(length)
        self._reader.readinto(part)
        return part

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
        lengths = [len(view) for view in views]
        with self.interrupts, self._lock:
            if self.memory:
                self._lend(views, lengths)
            self._write([struct.pack(f"<I{len(views)}Q", len(views), *lengths), *views])

    def _lend(self, views, lengths):
        large = [index for index, length in enumerate(lengths) if length >= self.memory.threshold]
        for index in large[:LOANS]:
            offset = self.memory.lend(views[index])
            if offset is not None:
                views[index] = struct.pack("<Q", offset)
                lengths[index] |= LENT

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
