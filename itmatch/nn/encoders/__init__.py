"""Encoders: regions or words in, fragments in the shared space out."""
