"""From captions to token ids."""
