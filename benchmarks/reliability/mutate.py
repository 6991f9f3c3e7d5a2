"""Random damage to a file: to its bytes, or to its tokens, which keeps more of it readable."""

from __future__ import annotations

import json
import random
import re
import struct

TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[-+.\w]+|\s+|.', re.DOTALL)
ODD = [
    *(b"NaN", b"nan", b"Infinity", b"-Infinity", b"inf", b"1e999", b"-1e999", b"5e-324", b"1.8e308", b"-0.0"),
    *(b"0", b"-1", b"1", b"2", b"0.5", b"9007199254740993", b"9223372036854775808", b"1" + b"0" * 400),
    *(b"1" + b"0" * 5000, b"1_000", b"0x10", b"1,5", b"1e", b"\xd9\xa3", b"2026-11-24", b"12:30:00"),
    *(b"null", b"true", b"false", b"[]", b"{}", b"[[]]", b"[1, 2, 3]", b'{"a": 1}', b'""', b'"NaN"'),
    *(b'"\\u0000"', b'"\\ud800"', b'"a\\nb"', b'"', b"'", b'"""', b",", b";", b"\t", b"\n", b"\r", b"\x00"),
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"\xff", b"#", b"=", b"[" * 3000, b'{"a":' * 3000, b"]", b"}", b":"),
    *(b"lr", b"loss", b"step", b"val_loss", b"seed", b"noise", b"epoch", b"\xe2\x80\xa8", b"x" * 3000),
]  # fmt: skip


def damaged(data: bytes, rng: random.Random, most: int = 8192) -> bytes:
    """`data` after one to four random changes of its tokens or bytes; at most `most` bytes long."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        data = _tokens(data, rng) if rng.random() < 0.7 else _bytes(data, rng)
    return data[:most]


def damaged_checkpoint(data: bytes, rng: random.Random, most: int = 65536) -> bytes:
    """A safetensors file with its own JSON or its header damaged, the lengths made right again."""
    if rng.random() < 0.2:
        return _bytes(data, rng)[:most]
    try:
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        body = data[8 + length :]
        if rng.random() < 0.8:
            text = header["__metadata__"]["onecycle"].encode()
            header["__metadata__"]["onecycle"] = damaged(text, rng, most).decode(errors="replace")
            new = json.dumps(header).encode()
        else:
            new = damaged(data[8 : 8 + length], rng, most)
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return _bytes(data, rng)[:most]
    return (struct.pack("<Q", len(new)) + new + body)[:most]


def _tokens(data: bytes, rng: random.Random) -> bytes:
    tokens = TOKEN.findall(data)
    if not tokens:
        return rng.choice(ODD)
    place = rng.randrange(len(tokens))
    other = rng.randrange(len(tokens))
    match rng.randrange(6):
        case 0 | 1:
            tokens[place] = rng.choice(ODD)
        case 2:
            del tokens[min(place, other) : min(max(place, other), min(place, other) + 20) + 1]
        case 3:
            tokens.insert(place, rng.choice(ODD))
        case 4:
            tokens[place], tokens[other] = tokens[other], tokens[place]
        case _:
            tokens[place:place] = tokens[other : other + 30]
    return b"".join(tokens)


def _bytes(data: bytes, rng: random.Random) -> bytes:
    mutable = bytearray(data or b"\x00")
    place = rng.randrange(len(mutable))
    match rng.randrange(5):
        case 0:
            mutable[place] ^= 1 << rng.randrange(8)
        case 1:
            mutable[place] = rng.randrange(256)
        case 2:
            del mutable[place:]
        case 3:
            del mutable[place : place + rng.randrange(1, 40)]
        case _:
            mutable[place:place] = rng.randbytes(rng.randrange(1, 9))
    return bytes(mutable)
