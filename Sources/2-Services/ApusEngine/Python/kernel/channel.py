"""Frames between the engine's process and this one, over a socket pair.

A frame is a number of parts, the length of each, and the parts: little-endian integers, four bytes
for the number and eight for a length. Parts of messages are not packed again: they are as on the wire.
A length with the highest bit set is of a part that is lent (memory.py); in the part's place stand eight bytes,
its offset in its file.
"""

import os
import signal
import struct
import sys
import threading
import traceback

# The system takes this many parts in one call (IOV_MAX is 1024 at least on Linux and macOS).
PARTS_AT_ONCE = 512
# At most this many parts of a frame are lent.
LOANS = 32
LENT = 1 << 63
# How many bytes are read at once.
SMALL = 1 << 16
# User code may write to parts that are longer than this. Clients put shorter ones inside a pickle.
WRITABLE = 1024
# The longest part that an engine's process can hold.
LARGEST = (1 << 32) - 1


class Interrupts:
    """Handles SIGINT, which interrupts a task, and nothing else.

    While no task runs, the kernel says that it missed the signal, because the engine may have meant a request that
    is on its way; a callback of the loop that keeps the kernel from that request is interrupted. While a frame is being
    written, the interrupt waits for the frame's end: the engine could read nothing after half a frame.
    """

    def __init__(self, loop):
        self.loop = loop
        self.task_runs = False
        self.limit_message = None
        self.say_missed = None
        self._writing = 0
        self._waits = False
        self._main = threading.main_thread().ident

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
            if self.loop.is_held_up:
                raise KeyboardInterrupt("a request waits")
            return
        message = self.limit_message() if self.limit_message else None
        error = KeyboardInterrupt(message) if message else KeyboardInterrupt()
        if not self.loop.take_interrupt(error):
            raise error

    def leave_to_parent(self):
        """Makes SIGINT interrupt a process that user code forked at any time, as in other Python processes."""
        self._main = threading.get_ident()
        self.task_runs, self._writing, self._waits, self.limit_message = True, 0, False, None

    def __enter__(self):
        # Signal handlers run on the main thread only, so only frames that it writes can be broken off.
        if threading.get_ident() == self._main:
            self._writing += 1

    def __exit__(self, *error):
        if threading.get_ident() == self._main:
            self._writing -= 1
            if self._waits and not self._writing:
                self._interrupt()


class Reader:
    """Reads all bytes that a socket has, and hands them out in pieces of the wanted lengths."""

    def __init__(self, sock):
        self._socket = sock
        self._bytes = memoryview(bytearray(SMALL))
        self._start = self._end = 0

    @property
    def has_bytes(self):
        return self._start < self._end

    def take(self, lengths):
        """Pieces of these lengths, which together are not too long to be read at once; None at the end of the stream."""
        total = sum(lengths)
        while self._end - self._start < total:
            if not self._read_more(total):
                return None
        start, pieces = self._start, []
        for length in lengths:
            piece = self._bytes[start : start + length]
            pieces.append(bytes(piece) if length <= WRITABLE else bytearray(piece))
            start += length
        self._start = start
        return pieces

    def take_numbers(self, form):
        """The numbers of a struct's form; None at the end of the stream."""
        while self._end - self._start < form.size:
            if not self._read_more(form.size):
                return None
        start, self._start = self._start, self._start + form.size
        return form.unpack_from(self._bytes, start)

    def take_large(self, length):
        """One piece, however long; fewer bytes at the end of the stream."""
        piece = bytearray(length)
        view = memoryview(piece)
        done = min(length, self._end - self._start)
        view[:done] = self._bytes[self._start : self._start + done]
        self._start += done
        while done < length:
            count = self._receive_into(view[done:])
            if not count:
                return bytes(view[:done])
            done += count
        return bytes(piece) if length <= WRITABLE else piece

    def _read_more(self, wanted):
        """Reads into the free space of the buffer, of which it makes enough. False at the end of the stream."""
        if self._start == self._end:
            self._start = self._end = 0
        elif len(self._bytes) - self._start < wanted:
            self._bytes[: self._end - self._start] = self._bytes[self._start : self._end]
            self._start, self._end = 0, self._end - self._start
        count = self._receive_into(self._bytes[self._end :])
        self._end += count
        return count > 0

    def _receive_into(self, view):
        try:
            return self._socket.recv_into(view)
        except OSError:
            return 0


# The forms of a frame's head: the number of its parts, and their lengths, by that number.
COUNT = struct.Struct("<I")
HEADS = [struct.Struct(f"<{count}Q") for count in range(64)]


class Channel:
    """Reads frames on one thread; writes them from any."""

    def __init__(self, sock, interrupts, loop, memory=None):
        self.socket = sock
        self.interrupts = interrupts
        self.loop = loop
        self.memory = memory
        self._reader = Reader(sock)
        self._descriptor = sock.fileno()
        self._lock = threading.RLock()
        self._process = os.getpid()
        os.register_at_fork(after_in_child=self._leave_to_parent)

    @property
    def is_ours(self):
        """Whether this is the kernel's process, and not one that user code forked, which must not use the channel."""
        return os.getpid() == self._process

    def _leave_to_parent(self):
        """Closes the descriptors in a process that user code forked: they would keep the engine from seeing the kernel's end."""
        self.interrupts.leave_to_parent()
        self.socket.close()
        if self.memory:
            self.memory.close()

    def wait(self):
        """Waits for a frame or the end, and lets the loop run meanwhile. Errors that are raised in the loop belong to no request."""
        while not self._reader.has_bytes:
            try:
                self.loop.run_until_readable(self._descriptor)
                return
            except BaseException:
                if not self.is_ours:
                    raise
                traceback.print_exc()

    def receive(self):
        """The next frame's parts; None when the engine has closed its end."""
        reader = self._reader
        head = reader.take_numbers(COUNT)
        if head is None:
            return None
        (count,) = head
        if count < len(HEADS):
            lengths = reader.take_numbers(HEADS[count]) or ()
        else:
            lengths = struct.unpack(f"<{count}Q", reader.take_large(8 * count))
        try:
            if sum(lengths) <= SMALL:
                return reader.take(lengths)
            return [self._part(length) for length in lengths]
        except (MemoryError, OSError):
            # Only half of a request was read, and nothing behind it can be decoded; the engine reports that the kernel has ended.
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)

    def _part(self, length):
        if length & LENT:
            self._reader.take_large(8)
            return self.memory.take(length - LENT)
        return self._reader.take_large(length)

    def send(self, *parts):
        """Sends a frame of parts, which are bytes or objects with a buffer.

        Raises ValueError, and has sent nothing, when a part is longer than the engine's process can hold.
        """
        if not self.is_ours:
            return
        views = [part if isinstance(part, bytes) else memoryview(part).cast("B") for part in parts]
        lengths = [len(view) for view in views]
        if max(lengths) > LARGEST:
            raise ValueError(f"{max(lengths)} bytes fit in no message, whose parts have 4 GiB at most")
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
