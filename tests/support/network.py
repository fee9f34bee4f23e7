"""A network that somebody cuts: a proxy before a server, whose connections are slow, fall silent, or are reset."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from dataclasses import dataclass


@dataclass
class Conduct:
    """How the proxy treats what the server says; may be changed at any time.

    Attributes
    ----------
    piece_bytes, pause_s
        Answers go on in pieces, with a pause after each.
    silent
        Nothing goes on, in either direction, and nothing is closed.
    reset_after_bytes
        After so many bytes of answers a connection is reset; none: never.
    """

    piece_bytes: int = 1 << 16
    pause_s: float = 0.0
    silent: bool = False
    reset_after_bytes: int | None = None


class Proxy:
    """Listens on ``port`` for connections to another port of this machine."""

    def __init__(self, target: int) -> None:
        self.conduct = Conduct()
        self.accepted = 0
        self._target = target
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """End all connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for one in [self._listener, *self._open]:
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self.accepted += 1
                far = socket.create_connection(("127.0.0.1", self._target))
                near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._open += [near, far]
                threading.Thread(target=self._pass, args=(near, far, False), daemon=True).start()
                threading.Thread(target=self._pass, args=(far, near, True), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                while self.conduct.silent:
                    time.sleep(0.01)
                while answers and data:
                    conduct = self.conduct
                    piece, data = data[: conduct.piece_bytes], data[conduct.piece_bytes :]
                    if conduct.reset_after_bytes is not None and passed + len(piece) > conduct.reset_after_bytes:
                        self._reset(target)
                        return
                    target.sendall(piece)
                    passed += len(piece)
                    time.sleep(conduct.pause_s)
                target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _reset(target: socket.socket) -> None:
        target.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        target.shutdown(socket.SHUT_RD)  # the other thread waits for it, and a socket in use is not closed
        target.close()
