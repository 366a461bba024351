"""Passes large parts of frames in memory that the engine's process and this one share.

A part is a file without a name, and the other side gets a descriptor of the file. A part that comes is mapped, and
is the array's own memory from then on: writable and private to this process, as if it had been read. Arrays
that lie in such memory go back without a copy; others are copied into a new file.
"""

import array
import mmap
import os
import socket
import sys
import weakref

# The most mappings at a time: each holds descriptors, of which user code needs some too.
MAPPINGS = 64


class SharedMemory:
    # Smaller parts are cheaper to copy through the socket.
    threshold = 1 << 20

    def __init__(self, descriptor):
        self._socket = socket.socket(fileno=descriptor)
        self._files = {}  # weak reference to a mapping: descriptor of its file
        self._privacy = None

    def close(self):
        self._socket.close()

    # From the engine

    def take(self, length):
        """Takes the next part that the engine has lent."""
        _, ancillary, _, _ = self._socket.recvmsg(1, socket.CMSG_SPACE(4), getattr(socket, "MSG_CMSG_CLOEXEC", 0))
        descriptor = int.from_bytes(ancillary[0][2][:4], sys.byteorder)
        if len(self._files) < MAPPINGS and self._keeps_private():
            mapping = mmap.mmap(descriptor, length)
            self._files[weakref.ref(mapping, self._forget)] = descriptor
        else:
            mapping = mmap.mmap(-1, length)
            read_into(descriptor, mapping)
            os.close(descriptor)
        return memoryview(mapping)

    def _forget(self, reference):
        os.close(self._files.pop(reference))

    # A forked process shares mappings with this one, which would see what it writes. So they become private before a fork.

    def _keeps_private(self):
        if self._privacy is None:
            try:
                self._privacy = Privacy()
                os.register_at_fork(before=self._part)
            except (ImportError, AttributeError, OSError):
                self._privacy = False
        return bool(self._privacy)

    def _part(self):
        for reference, descriptor in list(self._files.items()):
            mapping = reference()
            if mapping is not None and self._privacy.copy_in_place(mapping):
                del self._files[reference]
                os.close(descriptor)

    # To the engine

    def lend(self, view):
        """Lends a part to the engine, and gives the part's offset in its file; None when it cannot be lent."""
        descriptor, offset = self._find(view)
        if descriptor is not None:
            return offset if self._send(descriptor) else None
        try:
            descriptor = os.memfd_create("apus", os.MFD_CLOEXEC)
        except (AttributeError, OSError):
            return None
        try:
            # Written and not mapped: pages that a write creates cost neither a page fault nor zeroes.
            done = 0
            while done < len(view):
                done += os.write(descriptor, view[done:])
            return 0 if self._send(descriptor) else None
        except OSError:
            return None
        finally:
            os.close(descriptor)

    def _find(self, view):
        """The file in which the view lies already, and its offset; None and 0 where it lies in none."""
        numpy = sys.modules.get("numpy")
        if numpy and self._files:
            start = address(numpy, view)
            for reference, descriptor in list(self._files.items()):
                mapping = reference()
                if mapping is not None:
                    offset = start - address(numpy, mapping)
                    if 0 <= offset <= len(mapping) - len(view):
                        return descriptor, offset
        return None, 0

    def _send(self, descriptor):
        rights = array.array("i", [descriptor])
        try:
            return self._socket.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]) == 1
        except OSError:
            return False


class Privacy:
    """Turns shared mappings into private ones, at the same address."""

    def __init__(self):
        import ctypes

        self._ctypes = ctypes
        library = ctypes.CDLL(None, use_errno=True)
        self._mmap, self._mremap = library.mmap, library.mremap
        self._mmap.restype = self._mremap.restype = ctypes.c_void_p
        self._mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        self._mremap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p]

    def copy_in_place(self, mapping):
        """Makes a mapping private. False when there is no memory for the copy."""
        ctypes, size = self._ctypes, len(mapping)
        start = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
        copy = self._mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        if copy == ctypes.c_void_p(-1).value:
            return False
        ctypes.memmove(copy, start, size)
        # MREMAP_MAYMOVE and MREMAP_FIXED: the copy replaces the mapping at its address.
        return self._mremap(copy, size, size, 1 | 2, start) == start


def address(numpy, view):
    return numpy.frombuffer(view, "B").__array_interface__["data"][0]


def read_into(descriptor, memory):
    view, done = memoryview(memory), 0
    while done < len(view):
        done += os.preadv(descriptor, [view[done:]], done)
