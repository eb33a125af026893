"""What the small commands share."""

from __future__ import annotations

import argparse
from typing import NoReturn

from itmatch.errors import UsageError


class CommandParser(argparse.ArgumentParser):
    """An argument parser whose errors are raised; the command line then says them in one line.

    Args:
        prog: the command as it is typed, ``itmatch convert``.
        description: of the command.

    Raises:
        UsageError: by ``parse_args``, for arguments that are no good.
    """

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raise instead of ending the process."""
        raise UsageError(f"{message} (see {self.prog} --help)")
