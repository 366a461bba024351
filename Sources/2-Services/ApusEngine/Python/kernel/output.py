"""Publishes the output of tasks: text on their streams, and messages of other kinds."""

import base64
import contextvars
import io
import json
import os
import threading

# Text waits this long for more to come with it, unless its task ends first.
FLUSH_SECONDS = 0.05
# More text than this does not wait.
FLUSH_CHARACTERS = 1 << 16
# No message has more text than this.
LARGEST_TEXT = 1 << 24

# The number of the request that the running code belongs to; tasks and callbacks that the code starts inherit it. 0: the latest.
REQUEST = contextvars.ContextVar("apus_request", default=0)


def plain(value):
    """Gives a value that JSON has, in place of one that it does not have."""
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
    """Publishes messages in the order in which they are made, each for the request whose code made it."""

    def __init__(self, channel):
        self.channel = channel
        self._lock = threading.RLock()
        self._texts = []  # [number of the request, stream name, pieces], oldest first
        self._length = 0
        self._is_flushing = False
        self._wake = threading.Event()
        self._flusher = None
        self._latest = 0
        # A forked child must have neither a lock that stays closed nor text that its parent prints too.
        os.register_at_fork(before=self.flush, after_in_child=self._reset)

    def _reset(self):
        self._lock = threading.RLock()
        self._texts = []
        self._is_flushing = False
        self._flusher = None

    def begin(self):
        """Begins the next request, to which messages of the code from here on belong."""
        self._latest += 1
        REQUEST.set(self._latest)

    def publish(self, topic, kind, content, metadata=None, buffers=()):
        self.flush()
        self._send(
            REQUEST.get() or self._latest, topic.encode(), kind.encode(), packed(metadata) if metadata else b"{}",
            packed(content), *buffers,
        )

    def _send(self, request, *parts):
        self.channel.send(b"P", b"%d" % request, *parts)

    def write(self, name, text):
        request = REQUEST.get() or self._latest
        with self.channel.interrupts, self._lock:
            if self._texts and self._texts[-1][0] == request and self._texts[-1][1] == name:
                self._texts[-1][2].append(text)
            else:
                self._texts.append((request, name, [text]))
            self._length += len(text)
            if self._length > FLUSH_CHARACTERS:
                self.flush()
            elif not self._wake.is_set():
                self._wake_flusher()

    def flush(self):
        # In this order: another thread that takes the text sets the flag first, and is waited for below.
        if not self._texts and not self._is_flushing:
            return
        with self.channel.interrupts, self._lock:
            self._is_flushing = True
            texts, self._texts, self._length = self._texts, [], 0
            for request, name, pieces in texts:
                text = "".join(pieces)
                for start in range(0, len(text), LARGEST_TEXT):
                    content = {"name": name, "text": text[start : start + LARGEST_TEXT]}
                    self._send(request, name.encode(), b"stream", b"{}", packed(content))
            self._is_flushing = False

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


def write_all(descriptor, data):
    while data:
        data = data[os.write(descriptor, data) :]


class Stream(io.TextIOBase):
    """Replaces sys.stdout or sys.stderr. Text that is written to the descriptor itself reaches the engine by a pipe."""

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
                write_all(self._descriptor, text.encode("utf-8", "backslashreplace"))
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
    """The stream's `buffer`, for code that writes bytes."""

    def __init__(self, stream):
        self._stream = stream

    def writable(self):
        return True

    def write(self, data):
        self._stream.write(bytes(data).decode("utf-8", "replace"))
        return len(data)

    def flush(self):
        self._stream.flush()
