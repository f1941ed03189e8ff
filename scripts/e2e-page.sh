#!/usr/bin/env bash
# Runs the page's Playwright tests in Chromium against the real pipeline, in a temporary folder on free ports.
# `e2e-page.sh restart FOLDER` stops and starts that pipeline; the tests call it through ATELIER_RESTART_CMD.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
atelier="${CARGO_TARGET_DIR:?names where atelier was built; \`make test-e2e\` sets it}/debug/atelier"

start() { # FOLDER
    ATELIER_CONFIG="$1/atelier.toml" ATELIER_DATA_DIR="$1/data" setsid "$atelier" up >>"$1/up.log" 2>&1 </dev/null &
    echo $! >"$1/pid"
    for _ in $(seq 1 600); do
        if curl -sf -o /dev/null "$(cat "$1/url")/health/ready"; then return 0; fi
        if ! kill -0 "$(cat "$1/pid")" 2>/dev/null; then break; fi
        sleep 0.2
    done
    echo "the pipeline did not become ready; its log:" >&2
    tail -n 60 "$1/up.log" >&2
    return 1
}

stop() { # FOLDER
    local pid; pid=$(cat "$1/pid")
    kill -TERM "$pid" 2>/dev/null || true
    for _ in $(seq 1 300); do kill -0 "$pid" 2>/dev/null || return 0; sleep 0.1; done
    kill -KILL "$pid" 2>/dev/null || true
}

if [ "${1:-}" = restart ]; then stop "$2"; start "$2"; exit; fi

free_port() { python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'; }

folder=$(mktemp -d)
trap 'stop "$folder"; rm -rf "$folder"' EXIT
gateway_port=$(free_port)
echo "http://127.0.0.1:$gateway_port" >"$folder/url"
cat >"$folder/atelier.toml" <<TOML
[gateway]
listen = "127.0.0.1:$gateway_port"
[broker]
listen = "127.0.0.1:$(free_port)"
TOML
start "$folder"
cd "$root/gateway/web"
ATELIER_URL=$(cat "$folder/url") ATELIER_RESTART_CMD="$root/scripts/e2e-page.sh restart $folder" npm run --silent e2e
