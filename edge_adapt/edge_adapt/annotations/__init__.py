"""Labelled pictures of the tools that people label with, as frames and label images."""
