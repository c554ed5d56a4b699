"""The governance plane's scripts by name; the modules are made as those in ``ledger/scripts``."""
