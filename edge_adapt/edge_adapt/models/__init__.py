"""Which model runs and why: a gate for candidates, versions on disk, the watch over a new one."""
