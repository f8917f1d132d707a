"""The operator's console for sequential fine-tuning of language models."""

__version__ = "0.1.0"
