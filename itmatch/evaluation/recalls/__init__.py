"""Recalls and what else is told of ranks; the metric is a file of its own, since torchmetrics imports much."""
