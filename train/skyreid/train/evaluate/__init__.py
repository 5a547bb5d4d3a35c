"""What a model is worth: protocols, metrics with intervals, reports."""
