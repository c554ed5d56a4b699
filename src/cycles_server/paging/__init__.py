"""Lists for every plane: cursors, and windows in time."""
