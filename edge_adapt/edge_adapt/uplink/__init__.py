"""The way up: what the store holds goes to the fleet, most valuable first, and is kept until the fleet has it."""
