"""Retraining from a deck: when it is due, the lesson, the gate on what the fleet has seen, and a page to sign."""
