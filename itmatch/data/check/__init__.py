"""Looking at data before training: what is there, what is missing, what is wrong."""
