"""Other people's trainings: those that are running, and those that have ended."""
