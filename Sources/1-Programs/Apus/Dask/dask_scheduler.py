"""Runs dask's scheduler for the controller that started this process, until that controller ends it or is gone.

The arguments of distributed.Scheduler are this program's only one, as JSON. On the socket to the controller goes one line of JSON: where
the scheduler listens, or why it cannot. The end of the socket is the end of the scheduler.
"""

import asyncio
import json
import os
import socket
import sys


async def main():
    controller = socket.socket(fileno=int(os.environ.pop("APUS_PARENT_FD")))

    def say(**words):
        controller.sendall(json.dumps(words).encode() + b"\n")

    try:
        from distributed import Scheduler

        scheduler = await Scheduler(**json.loads(sys.argv[1]))
    except Exception as error:
        text = str(error)
        if isinstance(error, ImportError):
            text += f". Dask's scheduler runs in {sys.executable}: pip install distributed there, or give the controller another --python"
        say(ename=type(error).__name__, evalue=text)
        return
    say(ip=scheduler.ip, address=scheduler.address, port=scheduler.port)
    controller.setblocking(False)
    await asyncio.get_running_loop().sock_recv(controller, 1)
    await scheduler.close()


asyncio.run(main())
