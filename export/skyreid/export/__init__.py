"""From a checkpoint to a bundle that proves itself."""
