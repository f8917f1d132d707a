"""The panels of the console, one widget per area of the screen."""
