"""Decisions by what is known of them, and by how their parcel looks."""
