"""Tasks and their examples: where they come from and how they become tokens."""
