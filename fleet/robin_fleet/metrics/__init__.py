"""Counters of robots over time, alerts, and what goes with slow or failed picks."""
