"""What blocks of the families are made of, and how they are called."""
