"""Studies: planning, scheduling and running several runs, and the statistical analysis of the results."""
