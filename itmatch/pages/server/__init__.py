"""The search page: an index in the browser."""
