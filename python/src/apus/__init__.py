"""Interactive parallel computing: ipyparallel's interface, with a controller and engines in Swift."""

from apus._version import __version__
from apus.errors import ApusError

__all__ = ["ApusError", "__version__"]
