"""`robin engine`: build, check, list, verify."""
