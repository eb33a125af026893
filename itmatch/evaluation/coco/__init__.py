"""COCO's captions with the annotations of others: which further captions fit which images."""
