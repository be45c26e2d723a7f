"""A release on its way to all robots: stages, the test that lets it go on or stops it, and who runs what."""
