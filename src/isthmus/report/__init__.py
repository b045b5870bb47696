"""Figures and HTML report of a study; everything is read from the study folder."""
