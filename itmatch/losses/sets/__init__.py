"""Regularisers of sets of vectors: several for an image, and for a caption."""
