"""Relations: the fragments of one image or caption take from each other, before they meet the other side."""
