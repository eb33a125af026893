"""``itmatch data ...``: one file a command."""
