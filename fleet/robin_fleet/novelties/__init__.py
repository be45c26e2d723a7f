"""Goods that nobody taught, over all robots: what comes again is one novelty, ranked, named, with pictures."""
