"""The version, alone in a file so that ``itmatch --version`` and the build read it without importing torch."""

__version__ = "0.2.0"
