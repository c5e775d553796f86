"""Point clouds with labels."""
