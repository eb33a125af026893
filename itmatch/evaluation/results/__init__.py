"""Results of several models beside each other: runs, published results, and tables of them."""
