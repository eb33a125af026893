"""Losses of one vector per image and one per caption."""
