"""The aggregator of a fleet: what comes in, what is new to it, training decks, releases and their roll-out."""
