"""``robin fleet demo``: simulated cells, the whole way from an unfamiliar parcel to a model on all robots, and back."""
