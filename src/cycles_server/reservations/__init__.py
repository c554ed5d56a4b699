"""The list of reservations, and the look-up of one."""
