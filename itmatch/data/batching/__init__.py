"""From the items of a split to batches of tensors."""
