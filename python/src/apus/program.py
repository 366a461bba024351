"""The program in this package: where it is, and why it cannot be run where it cannot."""

from __future__ import annotations

import errno
import functools
import os
import pathlib
import platform
import stat
import subprocess

from apus.errors import ApusError

#: Names another program to use in place of the package's own.
VARIABLE = "APUS_PROGRAM"

#: What the program of a wheel needs (scripts/wheel checks it).
OLDEST_GLIBC = "2.31"


def path() -> str:
    """Where the program is, whether it is there or not."""
    return os.environ.get(VARIABLE) or str(pathlib.Path(__file__).with_name("bin") / "apus")


def check(program: str) -> None:
    """Runs ``program --version``, and raises an ApusError that says why the program cannot be run, if that is so."""
    try:
        status = os.stat(program)
    except OSError as error:
        if os.environ.get(VARIABLE) == program:
            raise ApusError(f"{VARIABLE} names {program}, which cannot be used: {error.strerror}") from None
        raise ApusError(
            f"this installation has no program ({program}: {error.strerror}). Install a wheel of apus, "
            f"or name a program that was built elsewhere in {VARIABLE}"
        ) from None
    _check(program, status.st_mtime_ns, status.st_mode)


# A program that works goes on working, and a cluster asks at every start. A failure is not kept.
@functools.cache
def _check(program: str, _modified: int, mode: int) -> None:
    try:
        run = subprocess.run(
            [program, "--version"], capture_output=True, text=True, errors="replace", timeout=60, stdin=subprocess.DEVNULL
        )
    except OSError as error:
        raise ApusError(f"{program} cannot be run: {_reason(program, mode, error)}") from None
    except subprocess.TimeoutExpired:
        raise ApusError(f"{program} does not work: it has not said its version after a minute") from None
    if run.returncode == 0:
        return
    said = (run.stderr.strip() or run.stdout.strip()).splitlines()
    if any("GLIBC_" in line for line in said):
        raise ApusError(
            f"{program} cannot be run: it needs glibc {OLDEST_GLIBC} or later, and this system has "
            f"{_c_library()}. Use a newer system, or build apus on this one (scripts/wheel)"
        )
    last = said[-1] if said else "it printed nothing"
    raise ApusError(f"{program} does not work: it ended with status {run.returncode}: {last}")


def _c_library() -> str:
    name, version = platform.libc_ver()
    return f"{name} {version}" if name else "another C library"


def _reason(program: str, mode: int, error: OSError) -> str:
    """Says why the system refused to start a file that is there."""
    if error.errno == errno.EACCES and not stat.S_ISREG(mode):
        return "it is not a file"
    if error.errno == errno.EACCES and mode & 0o111 == 0:
        return f"its file is not executable. Make it so: chmod +x {program}"
    if error.errno == errno.EACCES and os.statvfs(program).f_flag & os.ST_NOEXEC:
        return (
            "its file system is mounted with 'noexec'. Install apus into an environment on another one, "
            f"or name a copy of the program elsewhere in {VARIABLE}"
        )
    if error.errno == errno.ENOEXEC:
        return f"it was built for another kind of machine than this one ({platform.machine()}), or is damaged"
    if error.errno == errno.ENOENT:
        # The file is there, so it is the loader that it names which is not.
        return f"it needs glibc, and this system has {_c_library()}. Build apus on this system (scripts/wheel)"
    return error.strerror or str(error)
