"""Functions over all pairs of images and captions: alignment, attention, anything of their inner products."""
