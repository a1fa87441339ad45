"""Ways to damage files, drawn from a random source: bytes, JSON, and what lies in a file's place."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

ODD_VALUES: tuple[Callable[[Random], Any], ...] = (
    lambda r: None,
    lambda r: r.choice([True, False]),
    lambda r: r.choice([0, -1, 1, 2**31, 2**63, 2**64, 10**400, -(10**400)]),
    lambda r: r.choice([0.5, -1e308, 1e-320]),
    lambda r: r.choice(["", "x", "../x", "/etc/passwd", "\ud800", "\0", "a" * 5000, "frames/../../x", "9" * 5000]),
    lambda r: [odd_value(r) for _ in range(r.randrange(3))],
    lambda r: {str(n): odd_value(r) for n in range(r.randrange(3))},
)
ODD_TEXTS = (
    b"", b"null", b"[]", b"{}", b'"x"', b"1" * 6000, b"[" * 90_000, b'{"a":' * 40_000, b"\xff\xfe\x00",
    b'{"check": 1}', b'{"check": "x", "check": "y"}', b'"\\ud800"', b"NaN", b"-Infinity",
    b"{" + b'"a":1,' * 50_000 + b'"b":1}', b"\xef\xbb\xbf{}",
)  # fmt: skip


def odd_value(numbers: Random) -> Any:
    """Return a value of any kind that JSON can have."""
    return numbers.choice(ODD_VALUES)(numbers)


def damaged(data: bytes, numbers: Random) -> bytes:
    """Return bytes with one thing wrong."""
    at = numbers.randrange(len(data) + 1)
    end = min(len(data), at + numbers.choice([1, 2, 8, 64, 4096]))
    some = numbers.randbytes(numbers.choice([1, 4, 8, 100]))
    ways = [
        data[:at],
        data[at:],
        data[:at] + data[end:],
        data[:at] + some + data[at:],
        data[:at] + some + data[at + len(some) :],
        data[:at] + bytes(end - at) + data[end:],
        data + some,
        data + data,
        numbers.choice(ODD_TEXTS),
        bytes(byte ^ (1 << numbers.randrange(8)) if place == at else byte for place, byte in enumerate(data))
        if len(data) < 100_000
        else data[:at],
    ]
    return numbers.choice(ways)


def odd_json(value: Any, numbers: Random) -> Any:
    """Return JSON with one value, at any depth, replaced or taken out."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if not keys or numbers.random() < 0.15:
        return odd_value(numbers)
    key = numbers.choice(keys)
    copy = dict(value) if isinstance(value, dict) else list(value)
    if numbers.random() < 0.2:
        del copy[key]
    else:
        copy[key] = odd_json(copy[key], numbers)
    return copy


def something_else(path: Path, outside: Path, numbers: Random) -> None:
    """Put what is no plain file into a file's place: a link, a pipe, a socket, a folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    targets = [outside / "file", outside / "folder", outside / "not there", path, Path("/dev/zero"), Path("/dev/full")]
    kind = numbers.randrange(5 if hasattr(os, "mkfifo") else 3)
    if kind == 0:
        path.symlink_to(numbers.choice(targets))
    elif kind == 1:
        os.link(outside / "file", path)
    elif kind == 2:
        path.mkdir()
        if numbers.random() < 0.5:
            (path / "inner").symlink_to(outside)
    elif kind == 3:
        os.mkfifo(path)
    else:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as made:  # a path may be too long for one
            made.bind(str(path))


def damaged_safetensors(data: bytes, numbers: Random) -> bytes:
    """Return a safetensors file with one thing wrong: a byte, its header's length, or a value in its header."""
    length = int.from_bytes(data[:8], "little")
    way = numbers.randrange(4)
    if way == 0:
        return damaged(data, numbers)
    if way == 1:
        lengths = [0, 1, length - 1, length + 1, len(data), 2**31, 2**63, 2**64 - 1, numbers.randrange(2**40)]
        wrong = numbers.choice(lengths)
        return wrong.to_bytes(8, "little") + data[8:]
    header = damaged(data[8 : 8 + length], numbers)
    if way == 2:
        changed = json.loads(data[8 : 8 + length])
        for _ in range(numbers.randint(1, 3)):
            changed = odd_json(changed, numbers)
        header = json.dumps(changed).encode()
        header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[8 + length :]
