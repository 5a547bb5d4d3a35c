"""Data sets as lists of labelled pictures, and how batches are drawn from them."""
