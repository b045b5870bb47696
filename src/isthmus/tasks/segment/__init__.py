"""Segmentation: a U-Net gives every pixel a class."""
