"""Deliberate faults in the server, and a run of the conformance kit against each of them."""
