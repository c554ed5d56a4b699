#!/usr/bin/env bash
# From a fresh checkout to running servers with a tenant, a key and a budget of one dollar.
#
#   ./quickstart.sh           serve the runtime plane on port 7878 (or $CYCLES_PORT) and the admin
#                             plane on port 7979 (or $CYCLES_ADMIN_PORT) until Ctrl-C
#   ./quickstart.sh --check   prove that it works, beside anything else, and end
#
# Needs Python 3.11 or newer. Everything it makes is in .venv and .cycles.
set -euo pipefail
cd "$(dirname "$0")"

say() { printf '%s\n' "$*"; }
fail() {
    printf 'quickstart: %s\n' "$*" >&2
    exit 1
}

check=
case "${1-}" in
    '') ;;
    --check) check=yes ;;
    *) fail "unknown argument $1; the only one is --check" ;;
esac

# -- Python ----------------------------------------------------------------------------------------

python=
for name in python3 python3.14 python3.13 python3.12 python3.11; do
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$name
        break
    fi
done
[ -n "$python" ] || fail 'Python 3.11 or newer is needed (Debian, Ubuntu: apt install python3 python3-venv)'

# -- free ports, before anything is installed or started --------------------------------------------

listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

check_port() {
    case $2 in
        '' | *[!0-9]*) fail "$1=$2 is not a port" ;;
    esac
    if listening "$2"; then
        fail "port $2 is taken; choose another: $1=$3 $0"
    fi
}

if [ -n "$check" ]; then
    read -r port admin_port <<<"$("$python" -c 'import socket
with socket.socket() as one, socket.socket() as other:
    for probe in (one, other):
        probe.bind(("127.0.0.1", 0))
    print(one.getsockname()[1], other.getsockname()[1])')"
else
    port=${CYCLES_PORT:-7878}
    admin_port=${CYCLES_ADMIN_PORT:-7979}
    check_port CYCLES_PORT "$port" 7900
    check_port CYCLES_ADMIN_PORT "$admin_port" 7901
fi

# -- the package, once for each state of setup.cfg --------------------------------------------------

venv=.venv
wanted=$(cksum setup.cfg pyproject.toml requirements.lock)
if [ "$(cat "$venv/cycles-installed" 2>/dev/null)" != "$wanted" ]; then
    if [ ! -x "$venv/bin/python" ]; then
        "$python" -c 'import ensurepip' 2>/dev/null ||
            fail "$python cannot make virtual environments (Debian, Ubuntu: apt install $python-venv)"
        say 'Making a virtual environment in .venv ...'
        [ ! -f "$venv" ] || rm "$venv" # a tool's pointer to an environment elsewhere
        "$python" -m venv "$venv" || fail "$python -m venv $venv failed"
    fi
    say 'Installing into .venv, this once ...'
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[embedded]' ||
        fail 'the installation failed; see above'
    say "$wanted" >"$venv/cycles-installed"
fi

# -- the servers -----------------------------------------------------------------------------------

# Its own store, whatever Redis the environment names.
unset REDIS_URL REDIS_HOST REDIS_PORT REDIS_PASSWORD

server=
scratch=
finish() {
    status=$?
    trap - EXIT INT TERM
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    if [ -n "$scratch" ]; then rm -rf "$scratch"; fi
    exit "$status"
}
trap finish EXIT
trap 'exit 0' INT TERM

data=.cycles
if [ -n "$check" ]; then
    scratch=$(mktemp -d)
    data=$scratch/data
fi
mkdir -p -m 700 "$data"
log=$data/server.log

"$venv/bin/cycles-server" up --port "$port" --admin-port "$admin_port" --data-dir "$data" >>"$log" 2>&1 &
server=$!
until listening "$port" && listening "$admin_port"; do
    kill -0 "$server" 2>/dev/null || fail "the servers did not start: $(tail -n 1 "$log")"
    sleep 0.1
done
"$venv/bin/cycles-server" demo --url "http://127.0.0.1:$port" --admin-url "http://127.0.0.1:$admin_port" \
    --data-dir "$data" ${check:+--check}

if [ -n "$check" ]; then
    say
    say 'It works.'
    exit 0
fi
say "Log       $log"
say
say 'Serving until Ctrl-C.'
wait "$server" || fail "the servers have ended: $(tail -n 1 "$log")"
