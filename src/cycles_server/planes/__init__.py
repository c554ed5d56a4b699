"""What each plane is made of, and the application that serves it."""
