"""Masks against labels: metrics and the run over a data set."""
