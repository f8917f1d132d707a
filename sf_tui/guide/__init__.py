"""The guide: Markdown pages that `sf guide` shows; holds no code."""
