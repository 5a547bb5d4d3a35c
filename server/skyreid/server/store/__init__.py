"""What is kept: the journal and its records, the gallery of embeddings."""
