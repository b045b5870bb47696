"""Training and evaluation of one recipe with one seed, in one folder."""
