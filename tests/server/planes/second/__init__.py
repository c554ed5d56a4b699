"""A second plane, as small as one can be and different in all that planes may differ in."""
