"""Puts the program ``apus`` into a wheel: a file that is at hand, or one that Swift builds from the sources beside this file.

``APUS_BINARY`` names a file that is at hand, and ``APUS_WHEEL_TAG`` what the wheel may be installed on (scripts/wheel sets both).
An editable installation has no program inside; APUS_PROGRAM names one when it is used.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sysconfig
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NEED = """

    No wheel of apus is made for this system ({platform}), so its program has to be built here, from its Swift sources.
    {problem}

    Building needs Swift 6.3 or later on the PATH (https://www.swift.org/install), SQLite's header and library
    (Debian: libsqlite3-dev), about 15 minutes and 3 GB. Python alone cannot build it.
"""


class ProgramHook(BuildHookInterface):  # type: ignore[type-arg, unused-ignore]
    """Adds the program to the files of a wheel, and says which systems the wheel is for."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it collects the wheel's files."""
        if version == "editable":
            return
        binary = os.environ.get("APUS_BINARY")
        program = pathlib.Path(binary) if binary else self._build()
        build_data["force_include"][str(program)] = "apus/bin/apus"
        build_data["pure_python"] = False
        platform = os.environ.get("APUS_WHEEL_TAG") or sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"

    def _build(self) -> pathlib.Path:
        root = pathlib.Path(self.root)
        # In an sdist the sources are in a folder of it; in the repository this folder is beside them.
        sources = next((folder for folder in (root / "swift", root.parent) if (folder / "Package.swift").is_file()), None)
        if sources is None:
            raise SystemExit(
                self._need("The Swift sources are missing: neither swift/Package.swift nor ../Package.swift is there.")
            )
        swift = shutil.which("swift")
        if swift is None:
            raise SystemExit(self._need("There is no 'swift' on the PATH."))
        # Without tests and examples, whose sources are not in an sdist.
        environment = {**os.environ, "APUS_TEST_TARGETS": "none"}
        command = [swift, "build", "-c", "release", "--static-swift-stdlib", "--product", "apus"]
        try:
            subprocess.run(command, cwd=sources, env=environment, check=True)
            folder = subprocess.run(
                [*command, "--show-bin-path"], cwd=sources, env=environment, check=True, capture_output=True, text=True
            )
        except subprocess.CalledProcessError as failure:
            raise SystemExit(self._need(f"'{' '.join(command)}' ended with status {failure.returncode}.")) from None
        built = root / "build" / "apus"
        built.parent.mkdir(exist_ok=True)
        shutil.copy2(pathlib.Path(folder.stdout.strip()) / "apus", built)
        if shutil.which("strip"):
            subprocess.run(["strip", str(built)], check=True)
        return built

    @staticmethod
    def _need(problem: str) -> str:
        return NEED.format(platform=sysconfig.get_platform(), problem=problem)
