"""Which goods look like none of those that the model knows."""
