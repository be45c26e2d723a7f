"""Closed-loop runs of the simulated cell: with records and report, or into a bag."""
