"""Schemathesis against the planes of a Cycles server, with what it must know of Cycles beyond the
schemas: for each plane a module that prepares the run, and the hooks that Schemathesis loads."""
