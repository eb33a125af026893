"""Smooth comparisons of a positive with all negatives at once."""
