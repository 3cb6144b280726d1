# SPDX-License-Identifier: Apache-2.0
"""Connect TCP and UDP sockets from source ports that are shared safely.

    import socket
    from connectx import connectx

    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    connectx(s, ("192.0.2.1", 53))

With asyncio: `connectx.aio`.
"""
from ._call import DATA_IDEMPOTENT, RESUME_ON_READ_WRITE, Address, connectx, disconnectx

__all__ = ["DATA_IDEMPOTENT", "RESUME_ON_READ_WRITE", "Address", "connectx", "disconnectx"]
