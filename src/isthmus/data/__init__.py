"""Data sources, stores, splits and batches of images."""
