"""All decisions that the page knows: a small index in memory, and the way back to record and pictures."""
