"""Labels corrected by persons: masks that are there already, put right with few clicks."""
