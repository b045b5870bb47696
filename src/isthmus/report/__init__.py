"""Figures and the page: reads study folders only."""
