"""Files on disk: arrays, text, json, word vectors; written whole or not at all."""
