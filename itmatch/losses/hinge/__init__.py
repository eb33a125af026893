"""Hinges: a positive has to stand a margin above its negatives."""
