"""Networks as topologies, and the parts that are handed to them."""
