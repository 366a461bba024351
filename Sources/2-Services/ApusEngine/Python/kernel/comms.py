"""Comms connect objects here with their counterparts in the client's notebook (ipywidgets, tqdm.notebook).

As ipykernel does in stock engines, this module tells the package `comm` how to make comms. Their messages are published for the
request that runs, and the client relays the notebook's answers as requests of the kinds below.
"""

import sys
import types

from apus_kernel.lazy import AfterImport

REQUESTS = (b"comm_open", b"comm_msg", b"comm_close")


class Comms:
    def __init__(self, publisher, info):
        self._publisher = publisher
        self._info = info
        self._manager = None
        self._kind = None

    def offer(self):
        """Installs these comms when `comm` is imported, or the older modules for comms in ipykernel."""
        actions = {
            "comm": lambda module: self._install(),
            # ipykernel installs its own comms, so these are installed again.
            "ipykernel.ipkernel": lambda module: self._install(),
            "ipykernel.comm.comm": self._adopt,
        }
        for name in [name for name in actions if name in sys.modules]:
            actions.pop(name)(sys.modules[name])
        sys.meta_path.insert(0, AfterImport(actions))

    def _install(self):
        import comm

        comm.create_comm = self._create
        comm.get_comm_manager = self.manager

    def _adopt(self, module):
        comms = self

        def publish_msg(self, kind, data=None, metadata=None, buffers=None, **content):
            comms._publish(self, kind, data, metadata, buffers, content)

        module.BaseComm.publish_msg = publish_msg

    def _create(self, *arguments, **options):
        if self._kind is None:
            from comm.base_comm import BaseComm

            self._kind = type("Comm", (BaseComm,), {"__doc__": "A comm of an engine.", "__module__": "comm"})
            self._adopt(types.SimpleNamespace(BaseComm=self._kind))
        return self._kind(*arguments, **options)

    def manager(self):
        if self._manager is None:
            from comm.base_comm import CommManager

            self._manager = CommManager()
        return self._manager

    def _publish(self, comm, kind, data, metadata, buffers, content):
        topic = comm.topic.decode() if isinstance(comm.topic, bytes) else str(comm.topic)
        self._publisher.publish(
            topic or f"comm-{comm.comm_id}", kind, {"data": data or {}, "comm_id": comm.comm_id, **content},
            # The engine's name tells the client where answers go.
            {**(metadata or {}), "engine": self._info.ident}, buffers or (),
        )

    # From the client

    def handle(self, kind, metadata, content, buffers):
        """Hands a message to its comm. A message to a comm that is gone is logged, as in stock engines."""
        kind = kind.decode()
        message = {
            "header": {"msg_type": kind}, "parent_header": {}, "msg_type": kind, "metadata": metadata, "content": content,
            "buffers": [memoryview(buffer) for buffer in buffers],
        }
        getattr(self.manager(), kind)(None, None, message)

    def known(self, target=None):
        """The open comms by id: the answer to a `comm_info_request`."""
        comms = dict(self._manager.comms) if self._manager else {}
        return {
            name: {"target_name": comm.target_name} for name, comm in comms.items() if target in (None, comm.target_name)
        }
