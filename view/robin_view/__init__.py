"""The page: what the robot saw, why it chose, what became of it, and what it learned."""
