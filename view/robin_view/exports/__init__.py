"""A run's records and pictures as files of other viewers. Their libraries are imported when they are asked for."""
