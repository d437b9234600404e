"""A simulated network line: a proxy that passes bytes on with a delay and a limited rate.

Each direction of the line is one queue of blocks, each with the time at which its last byte arrives: blocks
follow each other at the line's rate, and each takes half a round trip. A new connection costs one round trip
before its first byte. There is no loss and no slow start.

It uses one thread and few but large blocks, because on a small machine the measured programs need the
processor.
"""

from __future__ import annotations

import selectors
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.serving import listener, serve
from harness.processes import LOOPBACK

BLOCK_BYTES = 256 * 1024
READ_AHEAD_SECONDS = 0.02  # of the line's time, for which bytes are read from a sender in advance
SOCKET_BUFFER_BYTES = 1024 * 1024  # these count as sent for a sender


@dataclass
class Direction:
    """One direction of the line, which all connections share.

    :param rate: bytes per second.
    :param free: the time at which the line has carried all its bytes.
    """

    rate: float
    free: float = 0.0

    def carry(self, count: int, now: float) -> float:
        """Add bytes, and return the time at which the last of them has left."""
        self.free = max(self.free, now) + count / self.rate
        return self.free


@dataclass(eq=False)
class Lane:
    """One direction of one connection."""

    source: socket.socket
    target: socket.socket
    direction: Direction
    open_from: float
    queue: deque[tuple[float, memoryview]] = field(default_factory=deque)
    ended: bool = False  # the source will send no more
    blocked: bool = False  # the target currently accepts no more

    def due(self, now: float) -> bool:
        return bool(self.queue) and not self.blocked and self.queue[0][0] <= now

    def wants(self, now: float) -> bool:
        return not self.ended and max(self.direction.free - READ_AHEAD_SECONDS, self.open_from) <= now


class Line:
    """A proxy from a listening socket to a server, with a delay and a limited rate.

    :param server: the listening socket.
    :param port: the loopback port of the server.
    :param rate: bytes per second in each direction.
    :param round_trip: seconds there and back.
    """

    def __init__(self, server: socket.socket, port: int, rate: float, round_trip: float) -> None:
        self._server = server
        self._port = port
        self._delay = round_trip / 2
        self._up, self._down = Direction(rate), Direction(rate)
        self._lanes: list[Lane] = []
        self._selector = selectors.DefaultSelector()

    def run(self, stopped: Callable[[], bool] = lambda: False) -> None:
        self._server.setblocking(False)
        while not stopped():
            now = time.monotonic()
            for lane in self._lanes:
                while lane.due(now):
                    self._deliver(lane)
            self._drop_done()
            self._wait(now)

    def _wait(self, now: float) -> None:
        """Sleep until a socket is ready or a block is due, and read from senders if the line has room."""
        events: dict[socket.socket, int] = {self._server: selectors.EVENT_READ}
        moments = [now + 1.0]
        for lane in self._lanes:
            if lane.wants(now):
                events[lane.source] = events.get(lane.source, 0) | selectors.EVENT_READ
            elif not lane.ended:
                moments.append(max(lane.direction.free - READ_AHEAD_SECONDS, lane.open_from))
            if lane.blocked:
                events[lane.target] = events.get(lane.target, 0) | selectors.EVENT_WRITE
            elif lane.queue:
                moments.append(lane.queue[0][0])
        self._register(events)
        ready = {key.fileobj: mask for key, mask in self._selector.select(max(0.0, min(moments) - now))}
        if self._server in ready:
            self._accept()
        now = time.monotonic()
        for lane in self._lanes:
            if ready.get(lane.target, 0) & selectors.EVENT_WRITE:
                lane.blocked = False
            if ready.get(lane.source, 0) & selectors.EVENT_READ and lane.wants(now):
                self._read(lane, now)

    def _register(self, events: dict[socket.socket, int]) -> None:
        known = {key.fileobj: key.events for key in self._selector.get_map().values()}
        for sock in known.keys() - events.keys():
            self._selector.unregister(sock)
        for sock, mask in events.items():
            if sock not in known:
                self._selector.register(sock, mask)
            elif known[sock] != mask:
                self._selector.modify(sock, mask)

    def _accept(self) -> None:
        client, _ = self._server.accept()
        server = socket.create_connection((LOOPBACK, self._port))
        for sock in (client, server):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
            sock.setblocking(False)
        open_from = time.monotonic() + 2 * self._delay
        self._lanes += [
            Lane(client, server, self._up, open_from),
            Lane(server, client, self._down, open_from),
        ]

    def _read(self, lane: Lane, now: float) -> None:
        try:
            block = lane.source.recv(BLOCK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            block = b""
        lane.ended = not block
        lane.queue.append((lane.direction.carry(len(block), now) + self._delay, memoryview(block)))

    def _deliver(self, lane: Lane) -> None:
        due, block = lane.queue.popleft()
        try:
            if not block:  # the end of the stream travels as an empty block
                lane.target.shutdown(socket.SHUT_WR)
                return
            sent = lane.target.send(block)
        except BlockingIOError:
            sent = 0
        except OSError:
            lane.ended = True
            lane.queue.clear()
            return
        if sent < len(block):
            lane.queue.appendleft((due, block[sent:]))
            lane.blocked = True

    def _drop_done(self) -> None:
        for up, down in list(zip(self._lanes[::2], self._lanes[1::2], strict=True)):
            if all(lane.ended and not lane.queue for lane in (up, down)):
                self._lanes.remove(up)
                self._lanes.remove(down)
                for sock in (up.source, up.target):
                    if sock in self._selector.get_map():
                        self._selector.unregister(sock)
                    sock.close()


def main(arguments: Sequence[str]) -> None:
    port, rate, round_trip = arguments
    serve(listener(), lambda server: Line(server, int(port), float(rate), float(round_trip)).run())


if __name__ == "__main__":
    main(sys.argv[1:])
