"""Checkpoint files as PyTorch 0.2 on Python 2 wrote them: the storages behind the pickle, names and texts as bytes."""

import pickle
from collections import OrderedDict
from typing import ClassVar

import torch

_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001


class _Storage:
    def __init__(self, tensor):
        self.tensor = tensor.contiguous()


class _Python2(pickle._Pickler):
    """Protocol 2 with texts as bytes, which Python 3 cannot write, and tensors without `requires_grad`."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def __init__(self, file):
        super().__init__(file, protocol=2)
        self.storages = {}

    def save_text(self, text):
        self.write(b"U" + bytes([len(text)]) + text.encode())
        self.memoize(text)

    dispatch[str] = save_text

    def persistent_id(self, value):
        if not isinstance(value, _Storage):
            return None
        key = str(140000000000000 + len(self.storages))
        self.storages[key] = value.tensor
        return ("storage", torch.FloatStorage, key, "cuda:0", value.tensor.numel(), None)

    def reducer_override(self, value):
        if not isinstance(value, torch.Tensor):
            return NotImplemented
        return torch._utils._rebuild_tensor, (_Storage(value), 0, tuple(value.shape), value.stride())


def write_of_python_2(path, content):
    """Write plain values, containers, Namespaces and float tensors."""
    with path.open("wb") as file:
        sizes = {"short": 2, "int": 4, "long": 8}
        for head in (_MAGIC, _VERSION, {"protocol_version": _VERSION, "little_endian": True, "type_sizes": sizes}):
            _Python2(file).dump(head)
        pickler = _Python2(file)
        pickler.dump(content)
        _Python2(file).dump(sorted(pickler.storages))
        for key in sorted(pickler.storages):
            tensor = pickler.storages[key]
            file.write(tensor.numel().to_bytes(8, "little") + tensor.numpy().tobytes())
    return path


def ordered(weights):
    """A state dict as it was saved."""
    return OrderedDict((name, value.detach()) for name, value in weights.items())
