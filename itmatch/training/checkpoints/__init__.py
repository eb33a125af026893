"""Checkpoints: how they are read, written whole, and made a task again."""
