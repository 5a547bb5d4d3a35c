"""One file per published embedding method on one vision transformer trunk, and the detector."""
