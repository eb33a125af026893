"""RelationScenes, the built-in data: drawn scenes whose captions differ in one relation."""
