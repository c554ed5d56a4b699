"""``python -m cycles_server`` serves."""

from cycles_server.cli.serve import serve

if __name__ == "__main__":
    serve(prog_name="python -m cycles_server")
