"""Losses and metrics: plain torch or numpy, no knowledge of recipes."""
