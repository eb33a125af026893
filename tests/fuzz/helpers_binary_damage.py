"""Damage to binary files. Every function takes the bytes of a good file and a random.Random, and gives other bytes."""

import io
import json
import math
import pickle
import re
import struct
import zipfile
import zlib
from functools import cache

from helpers_text_damage import BYTES, MARKER, NUMBERS, ODD_NUMBERS, flip, json_of, odd_setting, odd_value

# ------------------------------------------------------------------------------------------------------- npy and npz

_HEADERS = (
    "{'descr': '<f4', 'fortran_order': False, 'shape': (%d, 3, 6), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (4, 3, 6), 'more': 1}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (-4, 3, -6), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (True, 72), }",
    "{'descr': '<f4', 'fortran_order': 1, 'shape': (4, 3, 6), }",
    "{'descr': '<f4', 'fortran_order': True, 'shape': (4, 3, 6), }",
    "{'descr': '>f4', 'fortran_order': False, 'shape': (4, 3, 6), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (4, 3, 6), }",
    "{'descr': '<U9999999999999', 'fortran_order': False, 'shape': (4, 3, 6), }",
    "{'descr': '|V0', 'fortran_order': False, 'shape': (4, 3, 6), }",
    "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (4, 3, 6), }",
    "{'descr': [('a', ('<f4', (9999999999,)))], 'fortran_order': False, 'shape': (4, 3, 6), }",
    "{'descr': {'a': 1}, 'fortran_order': False, 'shape': (4, 3, 6), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 99999999999999999999), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1, " * 90 + "), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': 72, }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (4, 3, 6.0), }",
    "(" * 300 + ")" * 300,
    "[" * 4000,
    "{'descr': '<f4', 'shape': (4L, 3L, 6L), 'fortran_order': False, }",
    "{'descr': '<f4', 'shape': (4, 3, 6), 'fortran_order': False, ",
    "{'descr': '<f4', 'shape': (" + "9" * 5000 + ",), 'fortran_order': False, }",
    "'''",
    "  {\n 1",
    "\\",
)


def npy_of(data, random):
    """A .npy file with another header, or odd numbers in it."""
    start = 10 + struct.unpack("<H", data[8:10])[0]
    header, body = data[10:start].decode("latin1"), data[start:]
    kind = random.randrange(8)
    if kind == 0:
        header = random.choice(_HEADERS).replace("%d", str(random.choice(NUMBERS)))
    elif kind == 1:
        header = re.sub(r"\d+", lambda found: str(random.choice((found[0], random.choice(NUMBERS)))), header)
    elif kind == 2:
        kinds = ("f8", "f2", "i8", "i4", "u1", "b1", "c8", "M8[s]", "S4", "U1", "V4", "O")
        header = re.sub(r"'descr': '[<|>](\w+)", lambda _: f"'descr': '<{random.choice(kinds)}", header)
    elif kind == 3:
        header = flip(header.encode("latin1"), random).decode("latin1")
    elif kind == 4:
        return bytes([*data[:6], random.choice((0, 1, 2, 3, 4, 255)), random.choice((0, 1)), *data[8:]])
    elif kind == 5:
        return data[:8] + struct.pack("<H", random.choice((0, 1, 10, 65535, len(data)))) + data[10:]
    else:
        import numpy as np

        array = np.load(io.BytesIO(data), allow_pickle=False).copy()
        if array.size and array.dtype.kind in "fiu":
            odd = (*ODD_NUMBERS, 1e30, -1.0) if array.dtype.kind == "f" else (-1, -2, 127, 1000)
            with np.errstate(all="ignore"):
                array.flat[random.randrange(array.size)] = np.array(random.choice(odd)).astype(array.dtype)
        elif array.dtype.kind in "fiu" or array.ndim == 0:
            array = array.reshape(-1)[:0]
        array = array[: random.choice((len(array), len(array), 1))] if array.ndim else array
        file = io.BytesIO()
        np.save(file, array, allow_pickle=False)
        return file.getvalue()
    raw = header.encode("latin1", "replace")
    return data[:8] + struct.pack("<H", len(raw) % 65536) + raw + body


@cache
def bomb(name):
    """An archive of 300 kB with a member of 320 MB, all zeros; its header is right."""
    count, file = 40_000_000, io.BytesIO()
    header = f"{{'descr': '<i8', 'fortran_order': False, 'shape': ({count},), }}\n".encode()
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(name, "w") as member,
    ):
        member.write(b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header)
        for _ in range(40):
            member.write(bytes(8_000_000))
    return file.getvalue()


def npz_of(data, random):
    """An archive with a damaged member, another set of members, or a member that unpacks to very much."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = random.choice(list(members))
    kind = random.randrange(9)
    if kind == 0:
        del members[name]
    elif kind == 1:
        members[name] = members[random.choice(list(members))]
    elif kind == 2:
        members[name] = random.choice(BYTES)(members[name], random)
    elif kind == 3:
        members[random.choice(("more.npy", "../up.npy", name + "x"))] = b"more"
    elif kind == 4:  # a bomb: as long as its header says, and all of one value
        return bomb(name)
    elif kind == 5:  # as large in its header alone
        header = "{'descr': '<i8', 'fortran_order': False, 'shape': (999999999999,), }\n"
        members[name] = b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header.encode() + bytes(800)
    else:
        members[name] = npy_of(members[name], random)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for key, content in members.items():
            archive.writestr(key, content)
    result = file.getvalue()
    if random.random() < 0.1:  # encrypted, or of an unknown method, it says
        result = re.sub(
            rb"PK\x01\x02(....)..",
            lambda m: b"PK\x01\x02" + m[1] + random.choice((b"\1\0", b"\0\1")),
            result,
            flags=re.S,
        )
    return result


# ------------------------------------------------------------------------------------------------------- safetensors


def safetensors_of(data, random):
    """Weights of which the header, a shape, a dtype, a name or a value is another."""
    size = struct.unpack("<Q", data[:8])[0]
    header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    kind = random.randrange(7)
    names = [name for name in header if name != "__metadata__"]
    name = random.choice(names)
    if kind == 0:
        return struct.pack("<Q", random.choice((0, 1, size + 1, len(data), 2**63, 2**64 - 1))) + data[8:]
    if kind == 1:
        raw = json_of(data[8 : 8 + size], random)
        return struct.pack("<Q", len(raw)) + raw + body
    if kind == 2:
        header[f"{name}x"] = header.pop(name)
    elif kind == 3:
        header[name]["dtype"] = random.choice(("F32", "I32", "F16", "BOOL", "F64", "U8", "F8_E5M2", "X"))
    elif kind == 4:
        header[name]["shape"] = random.choice(
            (header[name]["shape"][::-1], [1, *header[name]["shape"]], [2**40, 2**40], [])
        )
    elif kind == 5:
        other = random.choice(names)
        header[name], header[other] = header[other], header[name]
    else:
        first, last = header[name]["data_offsets"]
        if last > first:
            at = random.randrange(first, last) // 4 * 4
            odd = random.choice((struct.pack("<f", math.nan), struct.pack("<f", math.inf), b"\xff\xff\xff\xff"))
            body = body[:at] + odd + body[at + 4 :]
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + body


# ------------------------------------------------------------------------------------------------- files of torch.save


class _Harm:
    def __reduce__(self):
        import os

        return os.system, (f"touch {MARKER}",)


def torch_of(data, random):
    """A file of torch.save with something wrong at any depth, or one that names a function."""
    import torch

    kind = random.randrange(8)
    if kind == 0:
        return pickle.dumps({"state_dict": _Harm()}, protocol=2)
    content = torch.load(io.BytesIO(data), weights_only=False, map_location="cpu")
    if kind == 1:
        content["more"] = _Harm()
    else:
        content = _changed_object(content, random)
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def _changed_object(value, random):
    """A copy of a checkpoint in which one value, of any depth, is another; settings and namespaces are gone into."""
    if hasattr(value, "__dict__") and type(value).__name__ == "Namespace":
        return type(value)(**_changed_object(vars(value), random))
    if isinstance(value, dict) and value and random.random() < 0.85:
        key = random.choice([key for key in value if key in ("hyper_parameters", "opt", "model")] * 3 + list(value))
        result = type(value)(value)
        if random.random() < 0.1:
            del result[key]
        else:
            result[key] = _changed_object(value[key], random)
        return result
    if isinstance(value, list) and value and random.random() < 0.85:
        place = random.randrange(len(value))
        return [*value[:place], _changed_object(value[place], random), *value[place + 1 :]]
    if type(value).__name__ in ("Tensor", "Parameter"):
        import torch

        flat = value.detach().clone().double().flatten()
        return random.choice(
            (
                lambda: value[:1] if value.ndim else value[None],
                lambda: value.flatten(),
                lambda: torch.full_like(value, math.nan) if value.is_floating_point() else -value.long(),
                lambda: flat.new_tensor([]),
                lambda: torch.zeros(1).expand(10**9, 10**3),
                lambda: value.to(torch.complex64),
                lambda: None,
            )
        )()
    return (odd_setting if random.random() < 0.6 else odd_value)(
        value if isinstance(value, (int, float, str, list, dict)) else None, random
    )


# ---------------------------------------------------------------------------------------------------------- pictures


def png_of(data, random):
    """A PNG whose header says another size or kind, its checksum made to fit."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        return random.choice(BYTES)(data, random)
    fields = list(struct.unpack(">IIBBBBB", data[16:29]))
    place = random.randrange(7)
    fields[place] = random.choice((0, 1, 2, 60_000, 2**31 - 1, 100_000) if place < 2 else (0, 1, 3, 4, 16, 255))
    header = b"IHDR" + struct.pack(">IIBBBBB", *fields)
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


def thin_png(data, random):
    """A picture that is good and very long."""
    width, height = random.choice(((1, 60_000), (60_000, 1), (2, 30_000), (1, 200_000)))
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = b"IDAT" + zlib.compress((b"\0" + bytes(width)) * height)
    chunks = [header, body, b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks
    )
