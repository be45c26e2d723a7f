"""What becomes of a plan: issued plans, outcomes, the pick check."""
