"""Generation: label-conditioned VAEs and whether they use the label."""
