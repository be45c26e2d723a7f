"""Releases: parts of a model as signed files in a TUF repository."""
