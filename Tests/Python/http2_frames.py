"""HTTP/2 by hand: frames as bytes, and a socket that says anything. For peers that no library would be."""

import socket
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
ENHANCE_YOUR_CALM = 11
INITIAL_WINDOW_SIZE = 4


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def settings(*pairs):
    return frame(SETTINGS, payload=b"".join(struct.pack(">HI", *pair) for pair in pairs))


def integer(value, bits):
    """An HPACK integer, without what is before its prefix (RFC 7541 §5.1)."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([value])
    out, value = bytes([most]), value - most
    while value >= 128:
        out += bytes([value % 128 + 128])
        value //= 128
    return out + bytes([value])


def field(name, value, indexed=False):
    """A literal header field; with `indexed` it goes into the dynamic table."""
    return bytes([0x40 if indexed else 0]) + integer(len(name), 7) + name + integer(len(value), 7) + value


def request(path=b"/echo.Echo/Unary", method=b"POST", content_type=b"application/grpc", more=b""):
    return (
        field(b":method", method)
        + field(b":scheme", b"http")
        + field(b":path", path)
        + field(b":authority", b"test")
        + (field(b"content-type", content_type) if content_type else b"")
        + field(b"te", b"trailers")
        + more
    )


def message(data, length=None, flag=0):
    """A gRPC message; `length` may lie."""
    return struct.pack(">BI", flag, len(data) if length is None else length) + data


class Peer:
    """One connection. A server that closes it while bytes are still on their way resets it: both ends are told alike."""

    def __init__(self, port, patience, preface=True, pairs=()):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=patience)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if preface:
            self.send(PREFACE + settings(*pairs))

    def send(self, data):
        """False when the server has closed."""
        try:
            self.socket.sendall(data)
            return True
        except (BrokenPipeError, ConnectionResetError):
            return False

    def frames(self):
        """(kind, flags, stream, payload), until the server closes."""
        buffer = b""
        while True:
            while len(buffer) >= 9:
                length = int.from_bytes(buffer[:3], "big")
                if len(buffer) < 9 + length:
                    break
                yield buffer[3], buffer[4], int.from_bytes(buffer[5:9], "big"), buffer[9 : 9 + length]
                buffer = buffer[9 + length :]
            try:
                chunk = self.socket.recv(65536)
            except ConnectionResetError:
                return
            if not chunk:
                return
            buffer += chunk

    def read_to_end(self):
        """The error code of the GOAWAY, or None: it may be lost in a reset."""
        code = None
        for kind, _, _, payload in self.frames():
            if kind == GOAWAY:
                code = int.from_bytes(payload[4:8], "big")
        return code

    def close(self):
        self.socket.close()
