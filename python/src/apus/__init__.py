"""Interactive parallel computing: ipyparallel's interface, with a controller and engines in Swift.

    import apus

    with apus.Cluster(n=4) as client:
        print(client[:].apply_sync(lambda: 42))

``client`` is ipyparallel's own client, and ``apus.Cluster`` is ipyparallel's ``Cluster`` with our processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apus._version import __version__
from apus.errors import ApusError

if TYPE_CHECKING:
    from apus.cluster import Cluster, Status

__all__ = ["ApusError", "Cluster", "Status", "__version__"]


def __getattr__(name: str) -> Any:
    # Importing ipyparallel takes a third of a second, and the command ``apus`` does not need it.
    if name in ("Cluster", "Status"):
        import apus.cluster

        return getattr(apus.cluster, name)
    raise AttributeError(f"module 'apus' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), "Cluster", "Status"])
