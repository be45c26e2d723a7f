"""Labels of samples: filled in from picks and the model's proposals, corrected by persons, with tools of their own."""
