"""Classification: the judge of generated images."""
