"""The dialogs of the console: what asks, explains or looks something up."""
