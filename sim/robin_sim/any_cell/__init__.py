"""Scenes of any cell: other distances, lenses, angles, places, goods, sensors and mistakes than those of the cell."""
