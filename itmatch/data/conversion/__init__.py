"""Making a folder of precomputed features, or of photos, from data in other layouts."""
