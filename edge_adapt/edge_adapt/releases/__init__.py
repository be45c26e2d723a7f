"""Signed releases on the robot: fetched through TUF, verified, and handed to the registry of models."""
