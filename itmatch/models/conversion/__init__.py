"""Models from checkpoints of public repositories."""
