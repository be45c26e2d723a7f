"""A module per command of `robin`."""
