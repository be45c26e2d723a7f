"""Picks of the simulated cell as cases for the pick check: what a robot measured, and what truly happened."""
