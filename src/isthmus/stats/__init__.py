"""What metrics allow one to say: differences, families, looks, shares; arrays in, numbers out."""
