"""Networks and their modules; independent of recipes."""
