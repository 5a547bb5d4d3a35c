"""The central matcher: sightings in, identities out, live, with a stated confidence."""
