"""Relations between the words of captions: parsers, and how they are stored."""
