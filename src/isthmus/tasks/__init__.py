"""What differs between segmentation, generation and classification."""
