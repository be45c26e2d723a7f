"""The aggregator of a fleet of cells: what comes in, what is new to them, training decks, releases and their roll-out."""
