"""``python -m cycles_conformance``."""

from cycles_conformance.cli import main

if __name__ == "__main__":
    main(prog_name="cycles-conformance")
