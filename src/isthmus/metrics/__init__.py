"""Metrics of predictions: arrays in, numbers out."""
