"""Versions of the model, what the gate said of each, and releases on their way to the robots."""
