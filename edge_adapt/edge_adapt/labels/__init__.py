"""Labels that picks give: what was one parcel, what was two, and what is background."""
