"""Pickles, read and not run: the plain values and arrays that they describe. Nothing that they name is called."""

from __future__ import annotations

import pickletools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.lib import format as npy_format

from itmatch.formats.files import existing_file
from itmatch.formats.messages import reason, short, shown

_MOST_STEPS = 10_000_000  # of one pickle; the sizes of all images of COCO take one million
_PASSED_OVER = {"PROTO", "FRAME", "STOP"}
_VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_BYTES = {"STRING", "BINSTRING", "SHORT_BINSTRING"}  # which Python 2 took for texts
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
}
_NUMPY = {"numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric", "numpy._core.numeric"}
_ADMITTED = {
    *(f"{module}.{name}" for module in _NUMPY for name in ("_reconstruct", "scalar", "_frombuffer")),
    *("numpy.ndarray", "numpy.dtype", "_codecs.encode", "collections.OrderedDict"),
    *("__builtin__.bytes", "builtins.bytes"),
    *("copy_reg._reconstructor", "copyreg._reconstructor", "__builtin__.object", "builtins.object"),
}
_KEYS = (str, int, float, bytes, type(None))  # a tuple's hash may go deeper than the machine's stack
_DTYPE = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248]|[SU][0-9]{1,6}|O8?)")


def parse_pickle(
    data: bytes, where: str | Path, *, classes: Sequence[str] = (), encoding: Literal["latin-1", "utf-8"] = "latin-1"
) -> Any:
    """The value of a pickle of plain values, containers and numpy arrays.

    The steps of the pickle are followed here, one by one, and those that would call something are only understood where
    they make an array: so nothing of the file can run.

    Args:
        data: the pickle.
        where: its file, for error messages.
        classes: names of classes of any module, for whose objects the dict of their attributes is taken.
        encoding: of the texts that Python 2 wrote; arrays that it wrote need the first.

    Raises:
        ValueError: no pickle, a damaged one, or one that names anything else.

    Example:
        >>> import pickle
        >>> parse_pickle(pickle.dumps([{"image_w": 500}]), "sizes.pkl")
        [{'image_w': 500}]
        >>> parse_pickle(pickle.dumps(print), "evil.pkl")
        Traceback (most recent call last):
        ValueError: evil.pkl: names builtins.print, expected plain values and numpy arrays alone; nothing was run
    """
    try:
        return _Machine(classes, encoding).run(data)
    except _NotAdmittedError as error:
        raise ValueError(
            f"{where}: names {short(str(error))}, expected plain values and numpy arrays alone; nothing was run"
        ) from None
    except Exception as error:  # a damaged pickle fails in many ways
        raise ValueError(f"{where}: no pickle of plain values, or a damaged one ({reason(error)})") from None


def read_pickled_npy(path: str | Path) -> Any:
    """The objects of a ``.npy`` file that holds pickled ones: a list for an array of one dimension, else the object.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another file, or as :func:`parse_pickle`.
    """
    path = existing_file(path)
    with path.open("rb") as file:
        if not _is_of_objects(file):
            raise ValueError(f"{path}: expected a .npy file of pickled objects")
        return parse_pickle(file.read(), path)


def holds_objects(path: str | Path) -> bool:
    """Whether a file is a ``.npy`` file of pickled objects."""
    with existing_file(path).open("rb") as file:
        return _is_of_objects(file)


def _is_of_objects(file: Any) -> bool:
    """Whether an open ``.npy`` file holds objects; it is read up to where they begin."""
    try:
        version = npy_format.read_magic(file)
        header = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
        return bool(header(file)[2] == np.dtype(object))
    except Exception:  # no .npy file: numpy reads the header as a text of Python, which fails in many ways
        return False


class _NotAdmittedError(Exception):
    """A pickle names something that is not admitted."""


class _Name(str):
    """A function or class that is named; its name is all that is known of it."""


class _Made:
    """What a step would have made: a dtype, an array or an object, that gets its content by a later step."""

    def __init__(self, what: str, content: Any = None) -> None:
        self.what, self.content = what, content
        self.places: list[int] = []  # in the memory of the pickle


class _Machine:
    """The stack and the memory of a pickle that is followed."""

    def __init__(self, classes: Sequence[str], encoding: str) -> None:
        self.classes, self.encoding = set(classes), encoding
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memory: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        for count, (step, argument, _) in enumerate(pickletools.genops(data)):
            if count > _MOST_STEPS:
                raise ValueError(f"more than {_MOST_STEPS} steps")
            self._follow(step.name, argument)
        (value,) = self.stack
        if isinstance(value, (_Made, _Name)):
            raise ValueError("its value is no plain one")
        return value

    def _follow(self, name: str, argument: Any) -> None:
        if name in _VALUES:
            self.stack.append(argument if name not in _BYTES else argument.encode("latin-1").decode(self.encoding))
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _PASSED_OVER:
            pass
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            place = len(self.memory) if name == "MEMOIZE" else argument
            self.memory[place] = self.stack[-1]
            if isinstance(self.stack[-1], _Made):
                self.stack[-1].places.append(place)
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memory[argument])
        elif name == "MARK":
            self.marks.append(len(self.stack))
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            words = argument.split(" ", 1) if name == "GLOBAL" else self._pop(2)
            self.stack.append(self._named(".".join(map(str, words))))
        elif name in ("REDUCE", "NEWOBJ"):
            function, arguments = self._pop(2)
            self.stack.append(self._made(function, arguments))
        elif name == "BUILD":
            thing, state = self._pop(2)
            value = self._built(thing, state)
            for place in thing.places:
                self.memory[place] = value
            self.stack.append(value)
        else:
            self._fill(name)

    def _fill(self, name: str) -> None:
        """The steps that make containers, or put values into them."""
        if name in ("APPEND", "SETITEM", "TUPLE1", "TUPLE2", "TUPLE3", "POP"):
            count = {"SETITEM": 2, "TUPLE2": 2, "TUPLE3": 3}.get(name, 1)
            items = self._pop(count)
        elif name in ("APPENDS", "SETITEMS", "TUPLE", "LIST", "DICT", "POP_MARK"):
            items = self._pop(len(self.stack) - self.marks.pop())
        else:
            raise _NotAdmittedError(f"the step {name}")
        if name.startswith("TUPLE"):
            self.stack.append(tuple(items))
        elif name == "LIST":
            self.stack.append(items)
        elif name in ("APPEND", "APPENDS"):
            self._top(list).extend(items)
        elif name in ("SETITEM", "SETITEMS", "DICT"):
            if name == "DICT":
                self.stack.append({})
            self._top(dict).update(zip(map(_key, items[::2]), items[1::2], strict=True))

    def _pop(self, count: int) -> list[Any]:
        if count < 0 or count > len(self.stack):
            raise ValueError("more is taken than there is")
        items = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return items

    def _top(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise ValueError(f"items for a {type(self.stack[-1]).__name__}")
        return self.stack[-1]

    def _named(self, name: str) -> _Name:
        if name not in _ADMITTED and name.rpartition(".")[2] not in self.classes:
            raise _NotAdmittedError(name)
        return _Name(name)

    def _made(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, _Name) or type(arguments) is not tuple:
            raise ValueError("a call of no function")
        if function.endswith("._reconstructor"):  # of the second protocol and older: class, base, state of the base
            function, arguments = arguments[0], ()
        if isinstance(function, _Name) and function.rpartition(".")[2] in self.classes:
            return _Made("object")
        if function == "collections.OrderedDict":
            return {_key(key): value for key, value in (arguments[0] if arguments else ())}
        if function == "_codecs.encode":
            text, encoding = arguments
            return text.encode({"latin1": "latin-1", "latin-1": "latin-1"}[encoding])
        if function.endswith(".bytes") and not arguments:  # none, in the protocols of Python 2
            return b""
        if function == "numpy.dtype":
            if not isinstance(arguments[0], str) or not _DTYPE.fullmatch(arguments[0]):
                raise _NotAdmittedError(f"the dtype {shown(arguments[0])}")
            return _Made("dtype", np.dtype(arguments[0].replace("O8", "O")))
        if function.endswith("._reconstruct"):
            return _Made("array")
        if function.endswith("._frombuffer"):
            data, dtype, shape, order = arguments
            return _array(shape, dtype, data, order)
        if function.endswith(".scalar"):
            return _array((), arguments[0], arguments[1], "C").item()
        raise _NotAdmittedError(function)

    def _built(self, thing: Any, state: Any) -> Any:
        if not isinstance(thing, _Made):
            raise ValueError(f"a state for a {type(thing).__name__}")
        if thing.what == "object":
            if not isinstance(state, dict):
                raise ValueError("an object whose attributes are no dict")
            return state
        if thing.what == "dtype":
            if state[2] is not None or state[3] is not None:
                raise _NotAdmittedError("a dtype of several parts")
            order = str(state[1])
            thing.content = thing.content if order == "|" else thing.content.newbyteorder(order)
            return thing
        _, shape, dtype, is_fortran, data = state
        return _array(shape, dtype, data, "F" if is_fortran else "C")


def _array(shape: Any, dtype: Any, data: Any, order: str) -> Any:
    """An array whose bytes are as many as it needs; a list, or the one thing, of objects."""
    if not isinstance(dtype, _Made) or not isinstance(dtype.content, np.dtype) or type(shape) is not tuple:
        raise ValueError("an array without shape or dtype")
    if dtype.content.hasobject:
        if type(data) is not list or shape not in ((), (len(data),)) or (shape == () and len(data) != 1):
            raise ValueError("an array of objects of more than one dimension")
        return data if shape else data[0]
    content = data.encode("latin-1") if isinstance(data, str) else bytes(data)  # a str by Python 2
    values = np.frombuffer(content, dtype.content)
    return values.reshape(shape, order="F" if order == "F" else "C").astype(dtype.content.newbyteorder("="))


def _key(value: Any) -> Any:
    if not isinstance(value, _KEYS) or isinstance(value, _Name):
        raise ValueError(f"a key of type {type(value).__name__}")
    return value
