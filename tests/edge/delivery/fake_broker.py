"""As much of an MQTT 5 broker as a test needs to be strict, slow, rude or gone; counts bytes."""

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number, and where it ends."""
    number = shift = 0
    while True:
        number |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            return number, at


def text(value: str) -> bytes:
    return len(value).to_bytes(2, "big") + value.encode()


def packet(first: int, body: bytes) -> bytes:
    return bytes([first]) + varint(len(body)) + body


@dataclass(frozen=True)
class Published:
    channel: str
    payload: bytes
    size: int
    """Of the whole packet."""
    mid: int
    retain: bool
    again: bool
    """The flag DUP."""


@dataclass
class Rules:
    """How the broker behaves."""

    refuse: list[int] = field(default_factory=list)
    """Reason codes of the first CONNACKs."""
    properties: bytes = b""
    """Of a CONNACK."""
    acknowledge: Callable[[Published], int | None] = lambda message: 0
    """Reason code of a PUBACK; None = there is none."""
    on_publish: Callable[["Peer", Published], None] = lambda peer, message: None
    greet: bytes | None = None
    """Sent instead of any answer."""
    mute: bool = False
    """Never answers."""


class Peer:
    """A connected client."""

    def __init__(self, broker: "FakeBroker", link: socket.socket) -> None:
        self.broker, self.link = broker, link
        self.number = broker.connects
        self.outstanding = 0

    def send(self, data: bytes) -> None:
        try:
            self.link.sendall(data)
        except OSError:
            pass

    def tell(self, topic: str, payload: bytes, properties: bytes = b"") -> None:
        self.send(packet(0x30, text(topic) + varint(len(properties)) + properties + payload))

    def acknowledge(self, mid: int, reason: int = 0) -> None:
        self.outstanding -= 1
        self.send(packet(0x40, mid.to_bytes(2, "big") + (bytes([reason]) if reason else b"")))

    def end(self, reason: int | None = None) -> None:
        if reason is not None:
            self.send(packet(0xE0, bytes([reason, 0])))
        try:
            self.link.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


class FakeBroker:
    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.connects = self.bytes = self.most_outstanding = 0
        self.published: list[Published] = []
        self.subscriptions: dict[str, int] = {}
        self.wills_retained: list[bool] = []
        self.peers: list[Peer] = []
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._door.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._door.close()
        for peer in self.peers:
            peer.end()

    def of(self, channel: str) -> list[Published]:
        return [message for message in list(self.published) if message.channel == channel]

    def _serve(self) -> None:
        while True:
            try:
                link, _ = self._door.accept()
            except OSError:
                return
            self.connects += 1
            self.peers.append(Peer(self, link))
            threading.Thread(target=self._talk, args=(self.peers[-1],), daemon=True).start()

    def _talk(self, peer: Peer) -> None:
        try:
            while True:
                first = self._read(peer, 1)
                length = shift = 0
                head = first
                while True:
                    byte = self._read(peer, 1)
                    head += byte
                    length |= (byte[0] & 127) << shift
                    shift += 7
                    if byte[0] < 128:
                        break
                self._take(peer, head, self._read(peer, length))
        except (EOFError, OSError):
            peer.link.close()

    def _read(self, peer: Peer, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = peer.link.recv(count - len(data))
            if not more:
                raise EOFError
            data += more
        self.bytes += count
        return data

    def _take(self, peer: Peer, head: bytes, body: bytes) -> None:
        kind, rules = head[0] >> 4, self.rules
        if rules.greet is not None:
            peer.send(rules.greet)
        if rules.mute or rules.greet is not None:
            return
        if kind == 1:
            self.wills_retained.append(bool(body[7] & 32))
            code = rules.refuse.pop(0) if rules.refuse else 0
            extra = b"" if code else rules.properties
            peer.send(packet(0x20, bytes([0, code]) + varint(len(extra)) + extra))
            if code:
                peer.end()
        elif kind == 8:
            granted, at = b"", 3 + body[2]
            while at < len(body):
                size = int.from_bytes(body[at : at + 2], "big")
                name = body[at + 2 : at + 2 + size].decode()
                self.subscriptions[name] = body[at + 2 + size]
                granted, at = granted + b"\1", at + 3 + size
            peer.send(packet(0x90, body[:2] + b"\0" + granted))
        elif kind == 3:
            self._publish(peer, head, body)
        elif kind == 12:
            peer.send(packet(0xD0, b""))
        elif kind == 14:
            peer.end()

    def _publish(self, peer: Peer, head: bytes, body: bytes) -> None:
        size = int.from_bytes(body[:2], "big")
        topic, at, mid = body[2 : 2 + size].decode(), 2 + size, 0
        if head[0] & 6:
            mid, at = int.from_bytes(body[at : at + 2], "big"), at + 2
        said, at = read_varint(body, at)
        message = Published(
            topic.split("/")[-1],
            body[at + said :],
            len(head) + len(body),
            mid,
            bool(head[0] & 1),
            bool(head[0] & 8),
        )
        self.published.append(message)
        peer.outstanding += mid > 0
        self.most_outstanding = max(self.most_outstanding, peer.outstanding)
        if mid and (reason := self.rules.acknowledge(message)) is not None:
            peer.acknowledge(mid, reason)
        self.rules.on_publish(peer, message)


def wait_for(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "not within the time"
        time.sleep(0.01)
