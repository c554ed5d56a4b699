"""Background jobs: lapsed holds come back, indexes stay true. Any number of server processes
may run them side by side."""
