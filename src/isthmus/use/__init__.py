"""Put a trained model to use: draw pictures by label, and the same picture under other labels."""
