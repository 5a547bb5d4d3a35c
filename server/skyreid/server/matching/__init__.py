"""Who is who: evidence, clustering, and identities as a fold over decisions. No I/O, no clock."""
