"""The published systems, each a composition of blocks. Arguments of one name are the same in all of them.

- ``vocabulary``: the words, ``<pad>``, ``<start>``, ``<end>`` and ``<unk>`` among them (the model then takes strings),
  or their number.
- ``model_name``: name or local folder of a text model of ``transformers``.
- ``region_dim``: size F of the region features.
- ``embed_dim``: size D of the common space.
- ``word_dim``: size of the word vectors.
"""
