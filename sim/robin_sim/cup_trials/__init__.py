"""Trials of the cups in the simulated cell: what a cup reads when pressed, how soon a bad one is found."""
