"""What comes from the Hugging Face hub: models, and folders of ``datasets``."""
