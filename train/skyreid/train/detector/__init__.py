"""The person detector: one class, centre heatmap at stride 4, trained on the synthetic world."""
