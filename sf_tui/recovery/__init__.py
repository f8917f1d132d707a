"""Short tuning on a copy, the recovery test, repair, and edits of the weights without data."""
