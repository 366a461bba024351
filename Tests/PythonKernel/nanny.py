"""The engine's side of the socket pair, for tests of the kernel alone."""

import array
import fcntl
import json
import os
import pathlib
import pickle
import signal
import socket
import struct
import subprocess
import sys

KERNEL = pathlib.Path(__file__).resolve().parents[2] / "Sources" / "2-Services" / "ApusEngine" / "Python" / "kernel"


# In a length: the part is lent (memory.py).
LENT = 1 << 63


class Nanny:
    """Starts a kernel and speaks frames with it."""

    def __init__(self, environment=None, lends=False, options=(), **settings):
        ours, theirs = socket.socketpair()
        self.lender, their_lender = socket.socketpair()
        read_end, self.life = os.pipe()
        # Above what the child's 3 to 5 replace.
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 20) for fd in (theirs.fileno(), read_end, their_lender.fileno())]

        def place():
            for number, descriptor in enumerate(high, 3):
                os.dup2(descriptor, number)
            # Whoever runs the tests may have blocked signals.
            signal.pthread_sigmask(signal.SIG_SETMASK, [])

        self.process = self._spawn(place, environment, options)
        for descriptor in (*high, read_end):
            os.close(descriptor)
        theirs.close()
        their_lender.close()
        self.socket = ours
        self.reader = ours.makefile("rb")
        texts = {path.stem: path.read_text() for path in KERNEL.glob("*.py") if path.stem != "boot"}
        if lends:
            settings["memory"] = 5
        self.lends = self.is_ending = False
        self.send(json.dumps(texts).encode(), json.dumps(settings).encode())
        self.published, self.owners = [], []
        ready = self.receive()
        assert ready[0] == b"S", ready
        self.about = json.loads(ready[1])
        self.lends = self.about["memory"]
        self.send(b"I", b"7", b"uuid-7")

    def _spawn(self, place, environment, options):
        # close_fds would close 3 and 4 after they were put in place.
        return subprocess.Popen(
            [sys.executable, *options, "-c", (KERNEL / "boot.py").read_text()],
            stdin=subprocess.DEVNULL,
            close_fds=False, preexec_fn=place, env=environment,
        )

    def send(self, *parts):
        parts, lengths = list(parts), [len(part) for part in parts]
        for index, length in enumerate(lengths):
            if self.lends and length >= 1 << 20:
                descriptor = os.memfd_create("part")
                os.write(descriptor, parts[index])
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
                self.lender.sendmsg([b"\0"], rights)
                os.close(descriptor)
                parts[index], lengths[index] = bytes(8), length | LENT
        self.socket.sendall(struct.pack(f"<I{len(parts)}Q", len(parts), *lengths) + b"".join(parts))

    def receive(self):
        head = self.reader.read(4)
        if not head:
            return None
        (count,) = struct.unpack("<I", head)
        lengths = struct.unpack(f"<{count}Q", self.reader.read(8 * count))
        return [self._borrowed(length) if length & LENT else self.reader.read(length) for length in lengths]

    def _borrowed(self, length):
        _, ancillary, _, _ = self.lender.recvmsg(1, socket.CMSG_SPACE(4))
        descriptor = int.from_bytes(ancillary[0][2][:4], sys.byteorder)
        (offset,) = struct.unpack("<Q", self.reader.read(8))
        self.borrowed = os.fstat(descriptor)
        data = os.pread(descriptor, length - LENT, offset)
        os.close(descriptor)
        return data

    def request(self, kind, content=None, buffers=(), metadata=None):
        self.send(b"R", kind.encode(), json.dumps(metadata or {}).encode(), json.dumps(content or {}).encode(), *buffers)

    def reply(self):
        """The reply's content and buffers; what was published before it is kept."""
        while True:
            parts = self.receive()
            if parts is None:
                return None
            if parts[0] == b"E":
                self.is_ending = True
            if parts[0] == b"R":
                self.flags = parts[3]
                return json.loads(parts[4]), parts[5:]
            if parts[0] == b"P":
                self.published.append((parts[2].decode(), parts[3].decode(), json.loads(parts[5]), parts[6:]))
                self.owners.append(int(parts[1]))

    def execute(self, code, silent=False, metadata=None, **content):
        self.published, self.owners = [], []
        self.request("execute_request", {"code": code, "silent": silent, **content}, metadata=metadata)
        return self.reply()[0]

    def apply(self, *buffers, metadata=None):
        self.published, self.owners = [], []
        self.request("apply_request", buffers=buffers, metadata=metadata)
        return self.reply()

    def call(self, function, *arguments, metadata=None, **keywords):
        """A call of something that pickles by itself."""
        counts = {"nargs": len(arguments), "narg_bufs": len(arguments), "kw_keys": sorted(keywords)}
        values = [*arguments, *(keywords[key] for key in sorted(keywords))]
        return self.apply(*(pickle.dumps(value) for value in (function, counts, *values)), metadata=metadata)

    def text(self, name="stdout"):
        return "".join(content["text"] for topic, kind, content, _ in self.published if kind == "stream" and topic == name)

    def shown(self, kind):
        return [content for _, found, content, _ in self.published if found == kind]

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)

    def close(self):
        self.reader.close()
        self.socket.close()
        self.lender.close()
        try:
            return self.process.wait(30)
        finally:
            self.process.kill()
            os.close(self.life)
