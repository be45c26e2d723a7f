"""What happens now: the latest pick, the cups, what a person is asked."""
