"""What sick origins answer over HTTP/2, frame by frame: what they say at once, and what
they say to the request. The connection ends after it."""

DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED = 1, 4, 8


def frame(kind, flags=0, stream=1, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def number(first, bits, value):
    full = (1 << bits) - 1
    if value < full:
        return bytes([first | value])
    out, value = bytes([first | full]), value - full
    while value >= 128:
        out, value = out + bytes([128 | value & 127]), value >> 7
    return out + bytes([value])


def fields(*pairs):
    texts = [text if isinstance(text, bytes) else text.encode() for pair in pairs for text in pair]
    coded = [number(0, 7, len(text)) + text for text in texts]
    return b"".join(b"\0" + name + value for name, value in zip(coded[::2], coded[1::2]))


def head(*pairs, flags=END_HEADERS):
    return frame(HEADERS, flags, 1, fields(*pairs))


OK = (":status", "200")
HELLO = frame(SETTINGS, 0, 0)
BODY = frame(DATA, END_STREAM, 1, b"ok")
PLAIN = head(OK) + BODY
EIGHT = b"12345678"
NO_MORE = frame(GOAWAY, 0, 0, bytes(8))


def says(*rest, hello=HELLO):
    return hello, b"".join(rest)


# HAProxy 2.6.12's own check dies of these (SIGSEGV), and takes all others along: it is
# not asked.
KILLS_HAPROXY = {"DATA before HEADERS"}

HTTP2 = {
    "plain": says(PLAIN),
    "status 204": says(head((":status", "204"), flags=END_HEADERS | END_STREAM)),
    "status 503": says(head((":status", "503")), BODY),
    "103 then 200": says(head((":status", "103")), PLAIN),
    "trailers": says(head(OK), frame(DATA, 0, 1, b"ok"), frame(HEADERS, 5, 1, fields(("a", "b")))),
    "padded body": says(head(OK), frame(DATA, PADDED | END_STREAM, 1, b"\3ok\0\0\0")),
    "head in three frames": says(
        frame(HEADERS, 0, 1, fields(OK)),
        frame(CONTINUATION, 0, 1, fields(("a", "b"))),
        frame(CONTINUATION, END_HEADERS, 1, fields(("c", "d"))),
        BODY,
    ),
    "PING before the answer": says(frame(PING, 0, 0, EIGHT), PLAIN),
    "SETTINGS again before the answer": says(HELLO, PLAIN),
    "a frame of an unknown kind": says(frame(0x77, 0, 0, EIGHT), PLAIN),
    "GOAWAY that lets the request be answered": says(frame(GOAWAY, 0, 0, b"\0\0\0\1\0\0\0\0"), PLAIN),
    "RST_STREAM (NO_ERROR) after the answer": says(PLAIN, frame(RST, 0, 1, bytes(4))),
    "HTTP/1.1": says(hello=b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nok"),
    "no SETTINGS": says(PLAIN, hello=b""),
    "PING before SETTINGS": says(PLAIN, hello=frame(PING, 0, 0, EIGHT) + HELLO),
    "ENABLE_PUSH in SETTINGS": says(PLAIN, hello=frame(SETTINGS, 0, 0, b"\0\2\0\0\0\1")),
    "MAX_FRAME_SIZE of 1": says(PLAIN, hello=frame(SETTINGS, 0, 0, b"\0\5\0\0\0\1")),
    "INITIAL_WINDOW_SIZE of 2^31": says(PLAIN, hello=frame(SETTINGS, 0, 0, b"\0\4\x80\0\0\0")),
    "SETTINGS of 5 bytes": says(PLAIN, hello=frame(SETTINGS, 0, 0, b"\0\4\0\0\0")),
    "frame larger than allowed": says(head(OK), frame(DATA, END_STREAM, 1, b"x" * 20_000)),
    "padding longer than the frame": says(head(OK), frame(DATA, PADDED | END_STREAM, 1, b"\x09ok")),
    "PING between HEADERS and CONTINUATION": says(
        frame(HEADERS, 0, 1, fields(OK)), frame(PING, 0, 0, EIGHT), frame(CONTINUATION, 4, 1, b""), BODY
    ),
    "PUSH_PROMISE": says(frame(PUSH, END_HEADERS, 1, b"\0\0\0\2" + fields((":method", "GET"))), PLAIN),
    "DATA before HEADERS": says(frame(DATA, 0, 1, b"ok"), PLAIN),
    "HEADERS on stream 3": says(frame(HEADERS, END_HEADERS, 3, fields(OK)), PLAIN),
    "window above 2^31-1": says(frame(WINDOW, 0, 0, b"\x7f\xff\xff\xff"), PLAIN),
    "WINDOW_UPDATE of 0": says(frame(WINDOW, 0, 0, bytes(4)), PLAIN),
    "RST_STREAM (REFUSED_STREAM)": says(frame(RST, 0, 1, b"\0\0\0\7")),
    "RST_STREAM in the body": says(head(OK), frame(DATA, 0, 1, b"ok"), frame(RST, 0, 1, b"\0\0\0\2")),
    "GOAWAY before the request": says(hello=HELLO + NO_MORE),
    "GOAWAY (ENHANCE_YOUR_CALM)": says(frame(GOAWAY, 0, 0, b"\0\0\0\1\0\0\0\x0b")),
    "no status": says(head(("a", "b")), BODY),
    "two statuses": says(head(OK, OK), BODY),
    "status after a field": says(head(("a", "b"), OK), BODY),
    "status 20": says(head((":status", "20")), BODY),
    "status 101": says(head((":status", "101")), PLAIN),
    "large letters in a name": says(head(OK, ("X-A", "b")), BODY),
    "connection: close": says(head(OK, ("connection", "close")), BODY),
    "transfer-encoding: chunked": says(head(OK, ("transfer-encoding", "chunked")), BODY),
    "line end in a value": says(head(OK, ("a", "b\r\nc: d")), BODY),
    "NUL in a value": says(head(OK, ("a", "b\0c")), BODY),
    "content-length too large": says(head(OK, ("content-length", "3")), BODY),
    "content-length too small": says(head(OK, ("content-length", "1")), BODY),
    "two content-lengths": says(head(OK, ("content-length", "2"), ("content-length", "3")), BODY),
    "body cut short": says(head(OK), frame(DATA, 0, 1, b"ok")),
    "head cut short": says(frame(HEADERS, 0, 1, fields(OK))),
    "trailers that do not end the stream": says(head(OK), frame(HEADERS, 4, 1, fields(("a", "b")))),
    "HPACK: a field that is not in the table": says(frame(HEADERS, 5, 1, b"\x88\xff\xff\x7f")),
    "HPACK: a table larger than allowed": says(frame(HEADERS, 5, 1, b"\x3f\xe1\xff\x7f\x88")),
    "HPACK: a string longer than the block": says(frame(HEADERS, 5, 1, b"\x88\0\x7fa")),
    "HPACK: Huffman padding of zeros": says(frame(HEADERS, 5, 1, b"\x88\0\1a\x81\0")),
    "HPACK: the end of a string in one": says(frame(HEADERS, 5, 1, b"\x88\0\1a\x84\xff\xff\xff\xff")),
    "2,000 fields": says(head(OK, *[("a", "b")] * 2_000), BODY),
    "a bomb of 4 MB in 1 KB": says(frame(HEADERS, 4, 1, b"\x88\x40\1a" + number(0, 7, 4_000) + b"x" * 4_000 + b"\xbe" * 1_000), BODY),
    "20,000 PING": says(frame(PING, 0, 0, EIGHT) * 20_000, PLAIN),
    "20,000 SETTINGS": says(HELLO * 20_000, PLAIN),
    "20,000 empty CONTINUATION": says(
        frame(HEADERS, 0, 1, fields(OK)), frame(CONTINUATION) * 20_000, frame(CONTINUATION, 4), BODY
    ),
    "20,000 empty DATA": says(head(OK), frame(DATA) * 20_000, BODY),
}


def call(message, *trailers, kind="application/grpc"):
    start = head(OK, ("content-type", kind))
    return says(start, frame(DATA, 0, 1, message), frame(HEADERS, 5, 1, fields(*trailers)))


def only(status):
    pairs = OK, ("content-type", "application/grpc"), ("grpc-status", status)
    return says(head(*pairs, flags=END_HEADERS | END_STREAM))


def message(content, length=None, compressed=0):
    length = len(content) if length is None else length
    return bytes([compressed]) + length.to_bytes(4, "big") + content


DONE = ("grpc-status", "0")
UP = b"\x08\1"

GRPC = {
    "SERVING": call(message(UP), DONE),
    "SERVING, with a field of a later version": call(message(UP + b"\x12\1x"), DONE),
    "NOT_SERVING": call(message(b"\x08\2"), DONE),
    "UNKNOWN": call(message(b""), DONE),
    "SERVICE_UNKNOWN": call(message(b"\x08\3"), DONE),
    "NOT_FOUND": only("5"),
    "UNIMPLEMENTED": only("12"),
    "UNAVAILABLE": only("14"),
    "SERVING, and then INTERNAL": call(message(UP), ("grpc-status", "13")),
    "HTTP status 502": says(head((":status", "502"), ("content-type", "text/html")), BODY),
    "a page": says(head(OK, ("content-type", "text/html")), BODY),
    "no grpc-status": call(message(UP), ("a", "b")),
    "OK without a message": only("0"),
    "two messages": call(message(UP) * 2, DONE),
    "message shorter than it says": call(message(UP, 9), DONE),
    "message longer than it says": call(message(UP, 1), DONE),
    "message of 4 GB, it says": call(message(UP, 0xFFFFFFFF), DONE),
    "compressed, it says": call(message(UP, compressed=1), DONE),
    "a message that is no protobuf": call(message(b"\x08"), DONE),
    "the stream is reset": says(head(OK, ("content-type", "application/grpc")), frame(RST, 0, 1, b"\0\0\0\2")),
}
