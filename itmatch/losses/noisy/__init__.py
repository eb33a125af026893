"""Losses for training pairs of which some are wrong: each pair has a label that is learned while training."""
