"""Everything of one decision, and what the planner and other models say about its frame when they are asked again."""
