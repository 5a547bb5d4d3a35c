"""Other people's weights: recognised, converted, and our models held against their outputs."""
