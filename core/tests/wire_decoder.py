#!/usr/bin/env python3
"""A second reader of the wire after `WIRE.md`, with nothing but Python's library and no code of the crate.

It decodes every golden vector (`golden/*.hex`) into values and compares them with what they stand for,
and computes the ids of artifacts. Run: `python3 wire_decoder.py [folder of vectors]`.
"""

import hashlib
import pathlib
import sys


class Fault(Exception):
    """A rule of section 11 that is broken, by its name."""


def check(holds, fault):
    if not holds:
        raise Fault(fault)


class Reader:
    """The fields of a body, or what a stream holds (section 2)."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def is_over(self):
        return self.at == len(self.data)

    def take(self, count):
        check(self.at + count <= len(self.data), "Truncated")
        self.at += count
        return self.data[self.at - count:self.at]

    def n(self, bits=62):
        first = self.take(1)[0]
        rest = self.take((1 << (first >> 6)) - 1)
        value = int.from_bytes(bytes([first & 0x3F]) + rest, "big")
        check(value < 1 << bits, "OutOfRange")
        return value

    def be64(self):
        return int.from_bytes(self.take(8), "big")

    def bytes(self):
        return self.take(self.n())


CLEAR, PUSH, ADVERT, PARTIAL, SNAPSHOT, KEYED = range(6)
FETCH, CANCEL, REFUSE = 8, 9, 10
CHUNK, RECEIPT = 16, 17
MINOR, INCARNATION, CHANNEL, ROUTE, SENDER_CHANNEL, QUOTA = range(32, 38)
CALL, CONTINUE, ANSWER, BUSY, REFUSED, GRANT = range(48, 54)

# Kinds that have their place in a type of stream, in this version or a later one.
PLACED = {*range(0, 18), *range(32, 38), *range(48, 54)}


def frames(reader, body_max=1 << 20):
    """The frames to the end of a stream (section 3)."""
    while not reader.is_over():
        kind, length = reader.n(), reader.n()
        body = reader.take(length)
        check(length <= body_max or kind not in PLACED, "FrameTooLong")
        yield kind, Reader(body)


def ones(bits):
    return [8 * at + bit for at, byte in enumerate(bits) for bit in range(8) if byte >> bit & 1]


def chunk_size(length):
    if length <= 65_536:
        return 65_536
    size = 16_384
    while size < -(-length // 256) and size < 1_048_576:
        size *= 2
    return size


def chunk_count(length):
    return max(1, -(-length // chunk_size(length)))


# Updates (section 5).


def metadata(body):
    text = body.bytes()
    check(len(text) <= 128, "OutOfRange")
    return text


def content(kind, body):
    """What a slot holds: the fields behind slot and version."""
    held = {"hops": body.n(8)}
    if kind == PUSH:
        return {**held, "metadata": metadata(body), "content": body.bytes()}
    flags = body.n()
    held |= {"streamed": bool(flags & 1), "spread": bool(flags & 2), "length": body.n()}
    check(held["length"] <= 1 << 40, "OutOfRange")
    held |= {"metadata": metadata(body), "root": body.take(32)}
    if kind == PARTIAL:
        have, chunks = body.bytes(), chunk_count(held["length"])
        check(chunks <= 256 and (not have or have[-1] != 0), "OutOfRange")
        held["have"] = ones(have)
        check(all(chunk < chunks for chunk in held["have"]), "OutOfRange")
    return held


NAMES = {CLEAR: "clear", PUSH: "push", ADVERT: "advert", PARTIAL: "partial"}


def update(kind, body):
    """None: passed over."""
    if kind == SNAPSHOT:
        return {"update": "snapshot", "version": body.n(), "live": ones(body.bytes())}
    if kind > 7:
        check(kind not in PLACED, "Misplaced")
        return None
    told = {"slot": body.n(32), "version": body.n()}
    check(told["version"] >= 1, "OutOfRange")
    if kind == KEYED:
        key, kind = body.be64(), body.n()
        if kind not in (PUSH, ADVERT, PARTIAL):
            return {"update": "clear", **told}
        told["key"] = key
    # What is not known clears its slot.
    name = NAMES.get(kind, "clear")
    return {"update": name, **told, **({} if name == "clear" else content(kind, body))}


def chunk(kind, body):
    if kind != CHUNK:
        check(kind not in PLACED, "Misplaced")
        return None
    index, hashes = body.n(32), body.n(32)
    check(hashes <= 20, "OutOfRange")
    return {"index": index, "proof": [body.take(32) for _ in range(hashes)], "chunk": body.bytes()}


# Requests (section 7).


def request(kind, body):
    if kind == RECEIPT:
        receipt = {"request": "receipt", "channel": body.n(16), "slot": body.n(32)}
        return {**receipt, "version": body.n(), "declined": bool(body.n() & 1)}
    if not 8 <= kind <= 15:
        check(kind not in PLACED, "Misplaced")
        return None
    number = {"number": body.n()}
    if kind == FETCH:
        asked = {"request": "fetch", **number, "channel": body.n(16), "id": body.take(32)}
        count = body.n(32)
        check(1 <= count <= 8, "OutOfRange")
        ranges = [(body.n(32), body.n(32)) for _ in range(count)]
        check(all(length >= 1 for _, length in ranges), "OutOfRange")
        return {**asked, "ranges": ranges}
    if kind == CANCEL:
        return {"request": "cancel", **number}
    if kind == REFUSE:
        return {"request": "refuse", **number, "reason": body.n()}
    return {"request": "unknown", **number}


# Hellos (section 4).


def hello(reader):
    check(len(reader.data) <= 16_384, "FrameTooLong")
    said = {"minor": 0, "incarnation": 0, "channels": {}, "routes": {}, "quotas": {}}
    for kind, body in frames(reader, 1024):
        if kind == MINOR:
            said["minor"] = body.n()
        elif kind == INCARNATION:
            said["incarnation"] = body.be64()
        elif kind in (CHANNEL, SENDER_CHANNEL):
            name = body.n(16)
            check(name not in said["channels"] and len(said["channels"]) < 64, "Repeated")
            bounds = (body.n(32), body.n(), body.n(32), body.n(8))
            said["channels"][name] = (*bounds, kind == SENDER_CHANNEL)
        elif kind == ROUTE:
            name = body.n(16)
            check(name not in said["routes"] and len(said["routes"]) < 64, "Repeated")
            bounds = (body.n(32), body.n(32), body.n(16))
            bounds += (None if body.is_over() else body.n(),)
            said["routes"][name] = (*bounds, not body.is_over() and body.n() & 1 == 1)
        elif kind == QUOTA:
            name = body.n(16)
            check(name not in said["quotas"] and len(said["quotas"]) < 64, "Repeated")
            said["quotas"][name] = (body.n(32), body.n(32), body.n(32))
        else:
            check(kind not in PLACED, "Misplaced")
    return said


# Streams (section 3).


def stream(data):
    """The head of a unidirectional stream, and what it holds."""
    reader = Reader(data)
    kind = reader.n()
    if kind == 0:
        return {"stream": "hello", **hello(reader)}
    if kind == 1:
        head, decode = {"stream": "updates", "channel": reader.n(16)}, update
    elif kind == 2:
        head, decode = {"stream": "requests"}, request
    elif kind == 3:
        head, decode = {"stream": "chunks", "request": reader.n()}, chunk
    elif kind == 4:
        return {"stream": "twin"}
    else:
        return {"stream": "unknown", "type": kind}
    holds = []
    for kind, body in frames(reader):
        item = decode(kind, body)
        if item is not None:
            holds.append(item)
            decode = chunk if item.get("streamed") else decode
    return {**head, "holds": holds}


# Calls (section 10).


def call_frame(data):
    check(len(data) <= 64, "FrameTooLong")
    reader = Reader(data)
    kind, length = reader.n(), reader.n()
    body = Reader(reader.take(length))
    check(reader.is_over(), "Trailing")
    if kind == CALL:
        said = {"route": body.n(16), "timeout": body.n(32), "prepaid": body.n(32)}
        said["length"] = body.n(32)
        return {"call": "call", **said, "tell": bool(not body.is_over() and body.n() & 1)}
    if kind == GRANT:
        return {"call": "grant", "until": body.n(32)}
    if kind == CONTINUE:
        return {"call": "continue"}
    if kind == ANSWER:
        return {"call": "answer", "length": body.n(32)}
    if kind == BUSY:
        return {"call": "busy", "again": body.n(32)}
    check(kind == REFUSED, "Misplaced" if kind in PLACED else "UnknownKind")
    return {"call": "refused", "reason": body.n()}


# Artifacts (section 6).


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def merkle(leaves):
    if len(leaves) == 1:
        return leaves[0]
    left = 1
    while 2 * left < len(leaves):
        left *= 2
    return sha256(b"\x01", merkle(leaves[:left]), merkle(leaves[left:]))


def identify(data, text, key=None, publisher=None):
    """Id and root."""
    size = chunk_size(len(data))
    chunks = [data[at:at + size] for at in range(0, len(data), size)] or [b""]
    root = merkle([sha256(b"\x00", chunk) for chunk in chunks])
    domain = 1 + (key is not None) + 2 * (publisher is not None)
    parts = [b"slotcast artifact %d\n" % domain]
    parts += [] if key is None else [key.to_bytes(8, "big")]
    parts += [] if publisher is None else [publisher]
    parts += [len(data).to_bytes(8, "big"), bytes([len(text)]), text, root]
    return sha256(*parts) + root


# What the vectors stand for.


def counting(start, count=32):
    return bytes(range(start, start + count))


def frame_of(decode):
    """A vector of one frame."""
    def whole(data):
        (kind, body), = frames(Reader(data))
        return decode(kind, body)
    return whole


AT = {"slot": 1000, "version": 1 << 40}
HELD = {"length": 70_000, "metadata": b"height 7", "root": counting(0x80)}
SHORT = {"slot": 5, "version": 70}


def told(name, hops, streamed, spread, **more):
    flags = {"hops": hops, "streamed": streamed, "spread": spread}
    return {"update": name, **AT, **flags, **HELD, **more}


def push(hops=0, text=b"m", data=b"payload", **more):
    return {"update": "push", **SHORT, "hops": hops, "metadata": text, "content": data, **more}


UPDATES = {
    "clear": {"update": "clear", "slot": 65_535, "version": 1},
    "push": push(),
    "push_relayed": push(2),
    "push_empty": push(0, b"", b""),
    "keyed_push": push(key=2**64 - 2),
    "keyed_push_empty": push(0, b"", b"", key=2**64 - 2),
    "advert": told("advert", 0, False, False),
    "advert_streamed": told("advert", 0, True, False),
    "advert_relayed": told("advert", 3, False, False),
    "advert_spread": told("advert", 0, True, True),
    "keyed_advert": told("advert", 3, False, False, key=7),
    "partial": told("partial", 1, True, False, have=[1, 4]),
    "partial_spread": told("partial", 0, True, True, have=[0, 2]),
    "partial_none": told("partial", 1, False, False, have=[]),
    "keyed_partial": told("partial", 0, True, True, have=[1, 4], key=7),
    "snapshot": {"update": "snapshot", "version": 20_000, "live": [0, 2, 23]},
    "snapshot_empty": {"update": "snapshot", "version": 20_000, "live": []},
}


def fetch(ranges):
    return {"request": "fetch", "number": 65_538, "channel": 7, "id": counting(0x20), "ranges": ranges}


def refuse(reason):
    return {"request": "refuse", "number": 65_538, "reason": reason}


def receipt(declined):
    at = {"channel": 7, "slot": 300, "version": 70}
    return {"request": "receipt", **at, "declined": declined}


REQUESTS = {
    "fetch": fetch([(3, 256)]),
    "fetch_ranges": fetch([(70, 1), (0, 2), (1_048_575, 1)]),
    "cancel": {"request": "cancel", "number": 65_538},
    "refuse_not_held": refuse(0),
    "refuse_busy": refuse(1),
    "refuse_unknown": refuse(2),
    "refuse_other": refuse(17),
    "receipt": receipt(False),
    "receipt_declined": receipt(True),
}


def call(route, timeout, prepaid, length, tell=False):
    said = {"route": route, "timeout": timeout, "prepaid": prepaid, "length": length}
    return {"call": "call", **said, "tell": tell}


CALLS = {
    "call_head": call(300, 10_000, 16_384, 1_000_000),
    "call_head_small": call(7, 1, 0, 0),
    "call_head_large": call(65_535, 2**32 - 1, 2**32 - 1, 2**32 - 1),
    "call_head_tell": call(7, 1000, 0, 5, True),
    "reply_continue": {"call": "continue"},
    "reply_grant": {"call": "grant", "until": 1 << 18},
    "reply_answer": {"call": "answer", "length": 70_000},
    "reply_busy": {"call": "busy", "again": 1234},
    "reply_not_served": {"call": "refused", "reason": 0},
    "reply_dropped": {"call": "refused", "reason": 1},
    "reply_refused_other": {"call": "refused", "reason": 17},
}


def greeting(minor, channels, routes, quotas=None):
    start = {"stream": "hello", "minor": minor, "incarnation": 0x0102030405060708}
    return {**start, "channels": channels, "routes": routes, "quotas": quotas or {}}


BOUNDS = (1024, 16 << 20, 16 << 10, 4)
SMALL = {300: (1, 10, 0, 255, False)}
ROUTES = {7: (1 << 20, 1 << 20, 64, 16 << 20, True), 300: (0, 1 << 27, 0, 0, False)}
CLEARED = {"update": "clear"}

STREAMS = {
    "head_hello": greeting(0, {}, {}) | {"incarnation": 0},
    "head_updates": {"stream": "updates", "channel": 300, "holds": []},
    "head_requests": {"stream": "requests", "holds": []},
    "head_chunks": {"stream": "chunks", "request": 5 << 16 | 3, "holds": []},
    "head_twin": {"stream": "twin"},
    "head_unknown": {"stream": "unknown", "type": 99},
    "hello": greeting(0, {0: (*BOUNDS, False), **SMALL}, {}),
    "hello_sender_matters": greeting(0, {0: (*BOUNDS, True), **SMALL}, {}),
    "hello_quotas": greeting(0, {0: (*BOUNDS, False), **SMALL}, {}, {0: (10_000, 16 << 20, 1000)}),
    "hello_routes": greeting(0, {1: (*BOUNDS, False)}, ROUTES),
    "hello_minor_2": greeting(2, {0: (*BOUNDS, False)}, {7: ROUTES[7]}),
    "updates_minor_2": {"stream": "updates", "channel": 300, "holds": [
        told("advert", 0, False, False) | {"slot": 4, "version": 8},
        CLEARED | {"slot": 4, "version": 9},
        CLEARED | {"slot": 300, "version": 10},
        CLEARED | {"slot": 5, "version": 11},
    ]},
    "requests_minor_2": {"stream": "requests", "holds": [
        {"request": "unknown", "number": 77},
        {"request": "unknown", "number": 300},
        {"request": "cancel", "number": 5},
    ]},
}

PROOF = [counting(0x40), counting(0x60)]
CHUNKS = {
    "chunk": {"index": 0, "proof": [], "chunk": b"a whole artifact"},
    "chunk_proof": {"index": 2, "proof": PROOF, "chunk": b"the third of three"},
}

LARGE = bytes(at // 251 % 256 for at in range(196_613))
IDS = {
    "id_small": identify(b"payload", b"m"),
    "id_keyed_small": identify(b"payload", b"m", 7),
    "id_by_publisher": identify(b"payload", b"m", None, counting(0x40)),
    "id_keyed_by_publisher": identify(b"payload", b"m", 7, counting(0x40)),
    "id_large": identify(LARGE, b"height 7"),
    "id_keyed_large": identify(LARGE, b"height 7", 2**64 - 1),
}

# By vector: how it is decoded, and into what.
VECTORS = {
    **{f"update_{name}": (frame_of(update), value) for name, value in UPDATES.items()},
    **{f"request_{name}": (frame_of(request), value) for name, value in REQUESTS.items()},
    **{name: (frame_of(chunk), value) for name, value in CHUNKS.items()},
    **{name: (stream, value) for name, value in STREAMS.items()},
    **{name: (call_frame, value) for name, value in CALLS.items()},
    **{name: (bytes, value) for name, value in IDS.items()},
}


def main(folder):
    files = {path.stem: path for path in sorted(pathlib.Path(folder).glob("*.hex"))}
    wrong = [f"{name}: there is no such vector" for name in VECTORS.keys() - files.keys()]
    for name, path in files.items():
        if name not in VECTORS:
            wrong.append(f"{name}: this decoder does not know what it stands for")
            continue
        decode, expected = VECTORS[name]
        try:
            found = decode(bytes.fromhex(path.read_text()))
        except Fault as fault:
            found = f"the fault {fault}"
        if found != expected:
            wrong.append(f"{name}: {found}\n    instead of {expected}")
    print("\n".join(wrong) if wrong else f"{len(files)} vectors are as WIRE.md says")
    return 1 if wrong else 0


if __name__ == "__main__":
    here = pathlib.Path(__file__).parent / "golden"
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else here))
