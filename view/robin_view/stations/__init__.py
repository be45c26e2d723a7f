"""Stations: cups, conditions, and what a technician should see to."""
