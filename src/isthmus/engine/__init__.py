"""One recipe, one seed, one folder."""
