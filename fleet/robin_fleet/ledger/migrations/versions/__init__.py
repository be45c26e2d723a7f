"""One file a step; its number says what comes after what."""
