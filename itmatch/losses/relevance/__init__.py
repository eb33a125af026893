"""Losses that are told how well each caption fits each image."""
