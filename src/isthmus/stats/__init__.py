"""Statistics of metrics: paired differences, corrections, ranks, learning curves; no recipes."""
