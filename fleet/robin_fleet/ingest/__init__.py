"""What comes in from robots: verified, kept, booked."""
