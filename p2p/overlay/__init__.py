"""What nodes say about themselves, and the directory everybody makes of it."""
