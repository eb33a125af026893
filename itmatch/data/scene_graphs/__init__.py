"""Relations between the regions of images: readers, and how they are stored."""
