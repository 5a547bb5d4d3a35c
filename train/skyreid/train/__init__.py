"""Models, losses, data sets, the training loop, evaluation and the synthetic world."""
