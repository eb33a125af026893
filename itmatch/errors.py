"""Kinds of errors that somebody treats apart from the others of their sort."""

from __future__ import annotations


class UsageError(ValueError):
    """The command line or its configuration cannot be understood: an unknown command, option, class or type."""


class NonFiniteError(ValueError):
    """A number that a model has computed is NaN or infinite."""


class PhotoError(ValueError):
    """Of one photo, and not of the model or the settings, nothing can be made."""
