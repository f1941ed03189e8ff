# Redis of Debian. Only redis-tools is installed, which holds the server's program too and starts no service.
# shellcheck shell=bash disable=SC2154
port=${REDIS_PORT:-16379}

version() { redis-cli --version | cut -d' ' -f2; }
address() { echo "redis://127.0.0.1:$port"; }
installed() { command -v redis-check-rdb >/dev/null; }
install() { fail "redis is missing: install redis-tools (scripts/setup.sh servers)"; }

serve() {
    cd "$dir" || exit
    # One program with several names: it is what it is called.
    exec -a redis-server "$(command -v redis-check-rdb)" --port "$port" --bind 127.0.0.1 --dir "$dir" --appendonly yes --save ''
}

ready() { [ "$(timeout 2 redis-cli -h 127.0.0.1 -p "$port" ping 2>/dev/null)" = PONG ]; }
