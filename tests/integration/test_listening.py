"""What becomes of connections when a server ends."""

import socket

import pytest

from mlp.adapters.http_server.listening import take_nobody_new


def test_nobody_new_comes_and_who_is_connected_is_served() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        waiting = socket.create_connection(listener.getsockname())
        waiting.sendall(b"ask")
        take_nobody_new(listener)
        with pytest.raises(TimeoutError):
            socket.create_connection(listener.getsockname(), timeout=0.2)
        late = socket.socket()
        late.setblocking(False)
        late.connect_ex(listener.getsockname())
        accepted, _ = listener.accept()
        with waiting, accepted:
            assert accepted.recv(3) == b"ask"
            accepted.sendall(b"answer")
            assert waiting.recv(6) == b"answer"
        address = listener.getsockname()
    with late, pytest.raises(ConnectionRefusedError):  # not reset: it was never connected
        late.setblocking(True)
        late.connect(address)
