"""A socket that listens, and takes nobody new before it is closed."""

import ctypes
import logging
import socket
import struct
import sys

log = logging.getLogger("mlp.serving")

# asm-generic/socket.h: SO_ATTACH_FILTER, which Python does not name.
_ATTACH_FILTER = 26
# linux/filter.h: (code, jump if true, jump if false, operand). A packet begins at its TCP header,
# whose 14th byte has the flags: what has SYN without ACK asks for a new connection.
_NOBODY_NEW = (
    (0x30, 0, 0, 13),  # load that byte
    (0x54, 0, 0, 0x12),  # of it, SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone?
    (0x06, 0, 0, 0),  # drop it
    (0x06, 0, 0, 0xFFFFFFFF),  # take it whole
)


def take_nobody_new(listener: socket.socket) -> None:
    """Let nobody new connect; those who are connected, or about to be, wait to be accepted.

    To close a socket resets the connections that wait, and there is always a moment between a look
    at them and the close. Who asks from now on is not answered, asks again after a second, and is
    refused then, or reaches somebody else. Where the kernel cannot do it, all stays as it is.
    """
    if sys.platform != "linux":
        return
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in _NOBODY_NEW)
    kept = ctypes.create_string_buffer(code)  # until the kernel has copied it
    program = struct.pack("HP", len(_NOBODY_NEW), ctypes.addressof(kept))
    try:
        listener.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, program)
    except OSError as e:
        log.warning("a connection that comes as the server ends may be reset: %s", e)
