# PostgreSQL of Debian, with a database `atelier` of a user `atelier`.
# shellcheck shell=bash disable=SC2154
port=${POSTGRES_PORT:-15432}

programs=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)

version() { "$programs/postgres" --version | sed 's/.* \([0-9.]*\) .*/\1/'; }
address() { echo "postgres://atelier@127.0.0.1:$port/atelier"; }
installed() { [ -x "$programs/postgres" ]; }
install() { fail "postgres is missing: install it (scripts/setup.sh servers)"; }

# It refuses to run as root.
as_server() {
    if [ "$(id -u)" -eq 0 ]; then set -- setpriv --reuid=postgres --regid=postgres --init-groups "$@"; fi
    "$@"
}

# Where its first process was killed, the others end by themselves, and no new one starts before they have, nor before
# somebody has fetched the first one's end.
orphans() {
    local folder first
    first=$(head -n 1 "$dir/data/postmaster.pid" 2>/dev/null) &&
        grep -qs '^State:[[:space:]]*Z' "/proc/$first/status" && return 0
    for folder in /proc/[0-9]*/cwd; do
        if [ "$(readlink "$folder")" = "$dir/data" ]; then return 0; fi
    done
    return 1
}

prepare() {
    local patience=$((SECONDS + 20))
    if [ -f "$dir/data/PG_VERSION" ]; then
        while orphans && [ "$SECONDS" -lt "$patience" ]; do sleep 0.05; done
        return
    fi
    rm -rf "$dir/data"
    (umask 077 && secret >"$dir/password")
    mkdir -p "$dir/data"
    if [ "$(id -u)" -eq 0 ]; then chown -R postgres: "$dir"; fi
    as_server test -x "$dir" 2>/dev/null ||
        fail "postgres runs as user postgres, who cannot reach $dir: set ATELIER_SERVERS_DIR to a folder that everybody may enter"
    (cd "$dir" && as_server "$programs/initdb" --no-sync --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 \
        --username=atelier --pwfile=password -D data) >"$dir/initdb.log" 2>&1 ||
        { rm -rf "$dir/data"; fail "postgres: its folder cannot be made: $(last_words "$dir/initdb.log")"; }
}

serve() {
    cd "$dir" || exit
    if [ "$(id -u)" -eq 0 ]; then set -- setpriv --reuid=postgres --regid=postgres --init-groups; fi
    exec "$@" "$programs/postgres" -D data -p "$port" -c listen_addresses=127.0.0.1 -c unix_socket_directories='' \
        -c max_connections=200 -c shared_buffers=64MB
}

ready() { "$programs/pg_isready" -q -h 127.0.0.1 -p "$port"; }

sql() { PGPASSWORD=$(cat "$dir/password") "$programs/psql" -X -q -h 127.0.0.1 -p "$port" -U atelier -d postgres -tA -c "$1"; }

after_start() {
    [ -n "$(sql "select 1 from pg_database where datname = 'atelier'")" ] || sql 'create database atelier'
}

# TERM would wait until the last client is gone.
stop_signal() { echo INT; }

exports() { echo "export PGPASSWORD=$(cat "$dir/password")"; }
