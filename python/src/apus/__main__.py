"""The command ``apus``, and ``python -m apus``: becomes the program that is in this package."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from apus import program
from apus.errors import ApusError


def main() -> NoReturn:
    """Runs the program in place of this process, with the arguments of this process."""
    path = program.path()
    if sys.prefix != sys.base_prefix:
        # Engines run the active environment's Python, and the environment of this command is meant, activated or not.
        os.environ["VIRTUAL_ENV"] = sys.prefix
    try:
        os.execv(path, ["apus", *sys.argv[1:]])
    except OSError as error:
        try:
            program.check(path)
            problem = f"{path} cannot be run: {error}"
        except ApusError as failure:
            problem = str(failure)
        print(f"apus: {problem}", file=sys.stderr)
        sys.exit(126)


if __name__ == "__main__":
    main()
