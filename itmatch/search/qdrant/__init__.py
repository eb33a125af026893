"""Qdrant as a first stage: in this process, or a server or cluster."""
