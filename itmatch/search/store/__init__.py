"""What an index is on disk: shards of memory maps, and a manifest that is replaced atomically."""
