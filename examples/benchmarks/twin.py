"""A device that is none: tensors that say they lie on a GPU and lie in host memory, with a count of who waits for it.

Code takes the way that it takes on a GPU, since nothing that asks a tensor for its device is told ``cpu``; values are
those of the CPU. Every operation for which a real GPU would have to be waited for is noted with the line that asked:

- *read*: a number is read (``item()``, ``bool(tensor)``, ``int(tensor)``, ``tolist()``, ``torch.equal``);
- *shape*: a shape depends on values (``nonzero``, a mask as an index, ``masked_select``, ``unique``, ``bincount``,
  ``repeat_interleave`` with a tensor and no ``output_size``);
- *to host*, *to device*: a copy between the two that is not ``non_blocking``.

These are the places where PyTorch synchronises on CUDA (``torch.cuda.set_sync_debug_mode`` tells of the same). The
device is made with PyTorch's backends in Python, before the first backward pass of the process (which asks what devices
there are), and stays until the process ends; :func:`waits` counts within a block. There is no mixed precision.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.utils.backend_registration as backends
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

NAME = "twin"
_OWN = (str(Path(__file__)), str(Path(torch.__file__).parent))
_SHAPES = {
    "nonzero",
    "masked_select",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
    "bincount",
    "repeat_interleave",
    "argwhere",
}
_READS = {"_local_scalar_dense", "equal", "is_nonzero", "item"}
_COPIES = {"_to_copy", "copy_"}
_HOST_RESULTS = {"_pack_padded_sequence": (1,), "_pad_packed_sequence": (1,)}  # which stay in host memory


class _Event:
    """As that of CUDA, for a device that has always done its work."""

    def record(self, stream: Any = None) -> None:
        """Nothing to note."""

    def synchronize(self) -> None:
        """Nothing to wait for."""


class _Backend(backends._DummyBackendModule):
    Event = _Event

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        """Types of mixed precision."""
        return [torch.bfloat16, torch.float16]


class Twin(Tensor):
    """A tensor of the device, around one in host memory."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Twin:
        """Of the same sizes, on the other device."""
        return Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=device(),
        )

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Whatever is done with it."""
        return _run(function, args, kwargs or {}, None)


class _Mode(TorchDispatchMode):
    def __init__(self, found: Counter[tuple[str, str]]) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(function, args, kwargs or {}, self.found)


class _Makers(TorchFunctionMode):
    """``torch.tensor(..., device=...)``, which makes its tensor where no mode sees it: in host memory, then a copy."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        wanted = kwargs.get("device")
        if function not in (torch.tensor, torch.as_tensor) or wanted is None or torch.device(wanted).type != NAME:
            return function(*args, **kwargs)
        return function(*args, **kwargs | {"device": "cpu"}).to(wanted)


def device() -> torch.device:
    """The device, made when it is first asked for."""
    if not hasattr(torch, NAME):
        backends._setup_privateuseone_for_python_backend(NAME, _Backend())
    return torch.device(NAME, 0)


@contextmanager
def waits() -> Iterator[Counter[tuple[str, str]]]:
    """Within the block the device can be used; what is yielded counts kinds of waits and the lines that asked."""
    device()
    found: Counter[tuple[str, str]] = Counter()
    with _Mode(found), _Makers():
        yield found


def _run(function: Any, args: Any, kwargs: dict[str, Any], found: Counter[tuple[str, str]] | None) -> Any:
    name, leaves = function.overloadpacket.__name__, tree_leaves((args, kwargs))
    there = any(isinstance(leaf, Twin) for leaf in leaves)
    wanted = kwargs.get("device")
    to_device = there if wanted is None else torch.device(wanted).type == NAME
    if name == "copy_":
        to_device = isinstance(args[0], Twin)
    if found is not None and (kind := _wait(name, args, kwargs, there=there, to_device=to_device)):
        found[kind, _asker()] += 1
    plain = {key: "cpu" if key == "device" and value is not None else _inner(value) for key, value in kwargs.items()}
    result = _CELLS.get(name, function)(*tree_map(_inner, args), **plain)
    if not to_device:
        return result
    if name == "copy_":
        return args[0]
    if torch.Tag.inplace_view in function.tags:
        with no_dispatch():
            function(*args, **kwargs)  # the sizes of the outer tensor
    stay = _HOST_RESULTS.get(name, ())
    if stay:
        return tuple(part if place in stay else _outer(part, args) for place, part in enumerate(result))
    return tree_map(lambda part: _outer(part, leaves), result)


def _outer(part: Any, leaves: Any) -> Any:
    """What stands for a result: an argument itself where the operation has worked in place."""
    if not isinstance(part, Tensor) or isinstance(part, Twin):
        return part
    known = [leaf for leaf in leaves if isinstance(leaf, Twin) and leaf.inner is part]
    return known[0] if known else Twin(part)


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, Twin) else value


def _wait(name: str, args: Any, kwargs: dict[str, Any], *, there: bool, to_device: bool) -> str | None:
    """Why a GPU would be waited for, if it would."""
    if name in _COPIES:
        blocking = not (kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2]))
        source = args[1] if name == "copy_" else args[0]
        if isinstance(source, Twin) == to_device or not blocking:
            return None
        return "to device" if to_device else "to host"
    if not there:
        return None
    if name in _READS:
        return "read"
    if name == "repeat_interleave" and kwargs.get("output_size") is not None:
        return None
    if name in _SHAPES:
        return "shape"
    if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
        indices = [x for x in args[1] if isinstance(x, Tensor)]
        if any(x.dtype in (torch.bool, torch.uint8) for x in indices):
            return "shape"
        if any(not isinstance(x, Twin) and x.ndim for x in indices):
            return "to device"
    return None


def _gru_cell(inputs: Tensor, hidden: Tensor, state: Tensor, *biases: Tensor | None) -> tuple[Tensor, Tensor]:
    """The step of a GRU that PyTorch asks of every device but the CPU; and what its backward pass needs."""
    (of_inputs, of_hidden) = (
        gates if bias is None else gates + bias for gates, bias in zip((inputs, hidden), biases, strict=True)
    )
    r, z, n = of_inputs.chunk(3, 1)
    hidden_r, hidden_z, hidden_n = of_hidden.chunk(3, 1)
    r, z = (r + hidden_r).sigmoid(), (z + hidden_z).sigmoid()
    n = (n + r * hidden_n).tanh()
    return n + z * (state - n), torch.cat((r, z, n, state, hidden_n), 1)


def _gru_cell_backward(grad: Tensor, workspace: Tensor, has_bias: bool) -> tuple[Tensor | None, ...]:  # noqa: FBT001
    r, z, n, state, hidden_n = workspace.chunk(5, 1)
    of_n = grad * (1 - z) * (1 - n * n)
    of_r, of_z = of_n * hidden_n * r * (1 - r), grad * (state - n) * z * (1 - z)
    of_inputs, of_hidden = torch.cat((of_r, of_z, of_n), 1), torch.cat((of_r, of_z, of_n * r), 1)
    of_biases = (of_inputs.sum(0), of_hidden.sum(0)) if has_bias else (None, None)
    return of_inputs, of_hidden, grad * z, *of_biases


_CELLS: dict[str, Any] = {"_thnn_fused_gru_cell": _gru_cell, "_thnn_fused_gru_cell_backward": _gru_cell_backward}


def _asker() -> str:
    """The nearest line that is neither PyTorch's nor of this file."""
    frame = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        if not path.startswith(_OWN) and not any(part.startswith("lightning") for part in Path(path).parts):
            return f"{'/'.join(Path(path).parts[-3:])}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "backward"
