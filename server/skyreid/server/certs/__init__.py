"""A small authority of one site: who may speak to its broker, under which name."""
