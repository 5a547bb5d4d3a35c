"""A run of training: set-up, steps, optimisers, EMA, resuming, several processes (DDP)."""
