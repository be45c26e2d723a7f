"""The cloud of a decision with its parcels, the tool and the cups."""
