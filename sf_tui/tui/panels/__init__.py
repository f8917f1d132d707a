"""The panels of the console: one widget a file, named as what one sees."""
