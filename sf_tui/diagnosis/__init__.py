"""What a recovery test shows about a lost task: verdict, decomposition, cost and intervals.

Pure numpy on accuracies that the caller measured: knows nothing of models, weights, profiles, run
directories or terminals, and never reads or writes a file.
"""
