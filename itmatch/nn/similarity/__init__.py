"""Similarities: fragments of images and captions in, scores of all pairs out."""
