"""Recording how an object was built, as plain data, and building it again.

A checkpoint or a ``config.json`` must rebuild a model without the YAML or the Python that made it. Every block of
this library therefore knows its own ``{class_path, init_args}``, the same form that jsonargparse reads. Such a file may
come from a stranger, so :func:`build` is the one gate: it builds nothing that :mod:`itmatch.trust` does not admit.
"""

from itmatch.spec.building import build, is_spec
from itmatch.spec.configurable import Configurable, Spec, noted_spec, only_noted

__all__ = ["Configurable", "Spec", "build", "is_spec", "noted_spec", "only_noted"]
