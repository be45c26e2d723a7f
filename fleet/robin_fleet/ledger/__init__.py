"""What the aggregator knows: robots, samples, events, in SQLite or PostgreSQL."""
