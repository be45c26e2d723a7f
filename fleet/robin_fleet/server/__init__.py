"""Where robots send to: who is let in, what of each upload has come, and what is handed to ingest."""
