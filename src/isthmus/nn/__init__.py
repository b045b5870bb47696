"""Networks and their parts; no recipes."""
