"""The ledger: what the scripts are asked, and what their answers mean on the wire."""
