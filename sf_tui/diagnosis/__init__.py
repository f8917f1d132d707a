"""What a recovery test says of a lost task: verdict, decomposition, cost, and how sure it is.

Pure numpy on accuracies that somebody else measured: knows nothing of models, weights, profiles,
run directories or terminals, and never reads or writes a file.
"""
