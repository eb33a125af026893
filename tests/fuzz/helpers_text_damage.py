"""Damage to text files. Every function takes the bytes of a good file and a random.Random, and gives other bytes."""

import copy
import json
import math

WORDS = ("", "a", "x" * 5000, "12", "-1", "nan", "../../a", "a\0b", "\ud800", "ünï", "null", "\n", "é" * 40)
NUMBERS = (0, 1, -1, 2, 3, 7, 2**31, 2**63, -(2**63) - 1, 10**30, 0.5, -0.0, 1e-300, 1e308, 5e10, 10_000_000)
ODD_NUMBERS = (math.nan, math.inf, -math.inf)
CLASSES = (
    "subprocess.Popen",
    "os.system",
    "unittest.__main__.X",
    "builtins.eval",
    "torch.nn.Linear",
    "itmatch.nn.MeanPooling",
    "itmatch.data.WordTokenizer",
    "itmatch.models.MatchingModel",
    "evil_module.Class",
    ".",
    "a..b",
)
MARKER = "A_COMMAND_WAS_RUN"
COMMAND = {  # what harmful settings do here: they leave a file in the working folder
    "subprocess.Popen": {"args": ["touch", MARKER]},
    "os.system": {"command": f"touch {MARKER}"},
    "builtins.eval": {"source": f"open({MARKER!r}, 'w')"},
}


# ------------------------------------------------------------------------------------------------------------- bytes


def flip(data, random):
    """Some bits turned over."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 8, 64)) if changed else 0):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def cut(data, random):
    """Only the beginning."""
    return data[: random.randrange(len(data) + 1)]


def insert(data, random):
    """Something in between."""
    at = random.randrange(len(data) + 1)
    piece = random.choice((b"\0", b"\xff" * 9, b"\n", b"{", b"[" * 30, b'"', b"\xef\xbb\xbf", b"9" * 40, b"-1", b"NaN"))
    return data[:at] + piece + data[at:]


def leave_out(data, random):
    """A part missing in the middle."""
    first, last = sorted(random.randrange(len(data) + 1) for _ in range(2))
    return data[:first] + data[last:]


def swap(data, random):
    """Two parts in each other's place."""
    a, b, c = sorted(random.randrange(len(data) + 1) for _ in range(3))
    return data[:a] + data[b:c] + data[a:b] + data[c:]


def overwrite(data, random):
    """A stretch of one value."""
    first, last = sorted(random.randrange(len(data) + 1) for _ in range(2))
    last = min(last, first + random.choice((1, 4, 8, 64)))
    return data[:first] + random.choice((b"\0", b"\xff", b"\x7f", b"\x80", b"9")) * (last - first) + data[last:]


def garbage(data, random):
    """Another file altogether."""
    size = random.choice((0, 1, 7, 8, 100, 3000))
    noise = bytes(random.randrange(256) for _ in range(min(size, 100))) * (1 + size // 100)
    starts = (b"", b"", b"\x93NUMPY\x01\0", b"PK\x03\x04", b"\x80\x02", b"{", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
    return random.choice(starts) + noise[:size]


BYTES = (flip, cut, insert, leave_out, swap, overwrite, garbage)


# --------------------------------------------------------------------------------------------------------------- json


def places(value, path=()):
    """The paths of all values inside a value of json, that of the whole first."""
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from places(child, (*path, key))


def at(value, path):
    """The value at a path."""
    for key in path:
        value = value[key]
    return value


def replaced(value, path, new):
    """A copy with another value at a path."""
    if not path:
        return new
    result = copy.deepcopy(value)
    at(result, path[:-1])[path[-1]] = new
    return result


def nested(depth, random):
    """A value in so many lists, or dicts."""
    value = random.choice((1, "a", None))
    for _ in range(depth):
        value = [value] if random.random() < 0.5 else {"a": value}
    return value


def odd_value(old, random):
    """Something that does not belong where ``old`` stood."""
    kinds = [
        lambda: random.choice(NUMBERS),
        lambda: random.choice(NUMBERS),
        lambda: random.choice(ODD_NUMBERS),
        lambda: random.choice(WORDS),
        lambda: random.choice((None, True, False, [], {}, [[]], [None], {"": {}}, [1, "a"])),
        lambda: nested(random.choice((2, 60)), random),
        lambda: [old],
        lambda: {"a": old},
        lambda: str(old)[:100],
    ]
    if isinstance(old, (int, float)) and math.isfinite(old):
        kinds += [lambda: -old, lambda: old + 1, lambda: float(old), lambda: old * 10**6]
    if isinstance(old, str):
        kinds += [lambda: old[:-1], lambda: old.upper(), lambda: old * 2]
    if isinstance(old, list):
        kinds += [lambda: old[:-1], lambda: old + old, lambda: old[::-1], lambda: dict(enumerate(old))]
    if isinstance(old, dict):
        kinds += [lambda: list(old.values()), lambda: list(old)]
    return random.choice(kinds)()


def odd_setting(old, random):
    """A class, or a size, that a model is not to be built of."""
    if random.random() < 0.5:
        path = random.choice(CLASSES)
        return random.choice((path, {"class_path": path, "init_args": COMMAND.get(path, {})}, {"class_path": path}))
    return random.choice((50_000_000_000, 10_000_000, -1, 1e308, math.nan, "768", {"a": {"b": 1}}, 0, 2**63, None))


def changed_value(value, random, odd=odd_value):
    """A value of json with something wrong at one place of any depth."""
    paths = list(places(value))
    path = random.choice(paths)
    old = at(value, path)
    kind = random.randrange(8)
    if kind == 0 and path:
        result = copy.deepcopy(value)
        del at(result, path[:-1])[path[-1]]
        return result
    if kind == 1 and isinstance(old, dict):
        return replaced(value, path, old | {random.choice((*WORDS, "class_path", "init_args")): odd(None, random)})
    if kind == 2 and isinstance(old, dict) and old:
        key = random.choice(list(old))
        return replaced(
            value, path, {random.choice((f"{key}_", key[:-1], "a")) if k == key else k: v for k, v in old.items()}
        )
    if kind == 3:
        other = at(value, random.choice(paths))
        return replaced(value, path, copy.deepcopy(other))
    return replaced(value, path, odd(old, random))


HUGE = "@huge@"
DEEP = "@deep@"


def json_of(data, random, odd=odd_value):
    """A file of json with a wrong value, or with something that no writer of json writes."""
    value = json.loads(data)
    kind = random.randrange(10)
    if kind == 0:  # a number of thousands of digits, or nesting that no reader follows
        depth = random.choice((150, 900, 5000, 200_000))
        text = random.choice(
            ("7" * random.choice((400, 5000)), "[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth)
        )
        path = random.choice(list(places(value)))
        return json.dumps(replaced(value, path, HUGE)).replace(f'"{HUGE}"', text).encode("utf-8", "surrogatepass")
    for _ in range(1 if kind < 8 else 3):
        value = changed_value(value, random, odd)
    return json.dumps(value, ensure_ascii=random.random() < 0.8).encode("utf-8", "surrogatepass")


def settings_of(data, random):
    """A config.json that asks for what a model file must not."""
    return json_of(data, random, odd_setting if random.random() < 0.7 else odd_value)


def json_lines_of(data, random):
    """A file with a line of json for each caption, one of them wrong."""
    lines = data.splitlines()
    row = random.randrange(len(lines))
    lines[row] = json_of(lines[row], random).replace(b"\n", b" ")
    return b"\n".join(lines) + b"\n"


# --------------------------------------------------------------------------------------------------------------- yaml


def yaml_of(data, random):
    """A configuration with a wrong value, or with one of the traps of YAML."""
    import yaml

    value = yaml.safe_load(data)
    kind = random.randrange(8)
    if kind >= 2:
        changed = changed_value(value, random, odd_setting if kind > 5 else odd_value)
        return json.dumps(changed).encode("utf-8", "surrogatepass")  # which is YAML too
    path = random.choice([path for path in places(value) if path])
    text = json.dumps(replaced(value, path, HUGE))
    depth = random.choice((150, 900, 5000))
    bomb = "[&a0 [x,x,x,x,x,x,x,x,x]" + "".join(f",&a{i + 1} [{','.join([f'*a{i}'] * 9)}]" for i in range(8)) + "]"
    traps = (
        bomb,
        "&a [*a]",
        "*nowhere",
        "9" * 5000,
        "[" * depth + "]" * depth,
        "!!python/object/apply:os.system [touch A_COMMAND_WAS_RUN]",
        "!!int x",
        "!!timestamp 2001-99-99",
        "2001-99-99",
        "{<<: 3}",
        "{[1]: 2}",
        "{{}: 2}",
        "!!binary '%'",
        "0x" + "f" * 6000,
        "1:99:99",
        '"\\ud800"',
        "\t- a",
    )
    return text.replace(f'"{HUGE}"', random.choice(traps)).encode()


# --------------------------------------------------------------------------------------------------------------- text


def text_of(data, random):
    """A text file in which a field or a line is another."""
    lines = data.split(b"\n")
    row = random.randrange(len(lines))
    kind = random.randrange(6)
    odd = random.choice(
        (b"9" * 5000, b"\xc2\xb2", b"1e999", b"nan", b"-1", b"\0", b"\xed\xa0\x80", b"1_0", b"9999999999", b" " * 99)
    )
    if kind == 0:
        lines[row] = odd
    elif kind == 1:
        lines.insert(row, lines[row])
    elif kind == 2:
        del lines[row]
    else:
        separator = b"\t" if b"\t" in lines[row] else b" "
        fields = lines[row].split(separator)
        fields[random.randrange(len(fields))] = odd
        lines[row] = separator.join(fields)
    return b"\n".join(lines)
