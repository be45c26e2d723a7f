"""Goods that nobody taught, over all robots: to confirm, name, merge, dismiss."""
