"""What the robot learns from its own picks. numpy only: no torch in here."""
