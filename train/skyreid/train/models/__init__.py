"""One file per published method, on one vision transformer trunk."""
