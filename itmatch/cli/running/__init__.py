"""What the commands that run a model share: their settings, what is wrong with them, and their help."""
