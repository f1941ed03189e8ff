#!/usr/bin/env bash
# Installs what is missing to build, test (`test`) and run Atelier on Debian 12 or newer, or for the real servers (`servers`);
# changes nothing when all is there.
set -euo pipefail

say() { printf '\033[1m[setup]\033[0m %s\n' "$*"; }
fail() { printf '[setup] error: %s\n' "$*" >&2; exit 1; }

# What each is for: compiler and cmake for librdkafka and libwebp; libssl for librdkafka's TLS and SCRAM, and libcurl's header, which
# it includes (and does not link); mold links; python3 and npm fetch models from their packages; the rest runs the tests.
build_packages=(build-essential cmake mold pkg-config libcurl4-openssl-dev libssl-dev zlib1g-dev python3 python3-venv python3-pip ca-certificates)
# Kafka runs on Java, and Maven fetches it. redis-tools holds the server's program too and starts no service.
kafka_packages=(openjdk-17-jre-headless maven)
test_packages=(chromium kcat curl postgresql redis-tools unzip "${kafka_packages[@]}")
server_packages=(curl postgresql redis-tools "${kafka_packages[@]}")

wanted=("${build_packages[@]}")
case "${1:-}" in
    test) wanted+=("${test_packages[@]}") ;;
    servers) wanted+=("${server_packages[@]}") ;;
esac
# Debian's own Node.js serves where it is new enough; one that is already there is left alone.
if ! command -v npm >/dev/null; then wanted+=(nodejs npm); fi
# A python that is not Debian's (pyenv, conda) brings venv and pip itself.
if python3 -c 'import venv, ensurepip' 2>/dev/null; then
    kept=(); for package in "${wanted[@]}"; do case "$package" in python3|python3-venv|python3-pip) ;; *) kept+=("$package");; esac; done
    wanted=("${kept[@]}")
fi

# Another Java of 17 or newer serves as well as Debian's.
if java -version 2>&1 | grep -qE 'version "(1[7-9]|[2-9][0-9])'; then
    kept=(); for package in "${wanted[@]}"; do [ "$package" = openjdk-17-jre-headless ] || kept+=("$package"); done
    wanted=("${kept[@]}")
elif ! apt-cache show openjdk-17-jre-headless >/dev/null 2>&1; then
    # Debian 13 has a newer one.
    wanted=("${wanted[@]/openjdk-17-jre-headless/default-jre-headless}")
fi

missing=()
for package in "${wanted[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
if [ "${#missing[@]}" -gt 0 ]; then
    root=(); if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || fail "these packages are missing and there is no sudo: ${missing[*]}; install them as root"
        root=(sudo)
    fi
    say "installing: ${missing[*]}"
    # The tests start PostgreSQL servers of their own; Debian's would take its port and run for ever. Only for this
    # installation: a cluster that somebody makes later is theirs.
    no_cluster=
    if [[ " ${missing[*]} " == *" postgresql "* ]]; then
        no_cluster=/etc/postgresql-common/createcluster.d/atelier-setup.conf
        "${root[@]}" mkdir -p "$(dirname "$no_cluster")"
        echo 'create_main_cluster = false' | "${root[@]}" tee "$no_cluster" >/dev/null
        # The expansion is for now: the variables are gone when the trap runs.
        # shellcheck disable=SC2064
        trap "${root[*]} rm -f '$no_cluster'" EXIT
    fi
    "${root[@]}" apt-get update -qq || fail "apt-get update failed: check the network and /etc/apt/sources.list"
    DEBIAN_FRONTEND=noninteractive "${root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null \
        || fail "apt-get could not install ${missing[*]}"
    if [ -n "$no_cluster" ]; then "${root[@]}" rm -f "$no_cluster"; fi
fi

wanted_rust=1.95
if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then PATH="$HOME/.cargo/bin:$PATH"; fi
command -v cargo >/dev/null || fail "Rust is missing: install it with rustup (https://rustup.rs), then run this again"
found_rust=$(cargo --version | cut -d' ' -f2)
if [ "$(printf '%s\n%s\n' "$wanted_rust" "$found_rust" | sort -V | head -n1)" != "$wanted_rust" ]; then
    if command -v rustup >/dev/null; then
        say "Rust $found_rust is older than $wanted_rust: updating with rustup"
        rustup update stable || fail "rustup could not update: Rust $wanted_rust or newer is needed"
    else
        fail "Rust $found_rust is older than $wanted_rust: install a newer one with rustup (https://rustup.rs)"
    fi
fi

# Vite needs Node 20.19; an older Node brings a newer one by npm's own package of it, kept in the cache folder.
cache="${XDG_CACHE_HOME:-$HOME/.cache}/atelier"
mkdir -p "$cache" || fail "the cache folder $cache is not writable: set XDG_CACHE_HOME to one that is"
if ! node -e 'const [a,b]=process.versions.node.split(".").map(Number); process.exit(a>20||(a===20&&b>=19)?0:1)' 2>/dev/null; then
    if [ ! -x "$cache/node/node_modules/node/bin/node" ]; then
        say "Node $(node --version 2>/dev/null || echo 'is missing or') is older than 20.19: fetching Node 22 as an npm package into $cache/node"
        npm install --silent --no-fund --no-audit --prefix "$cache/node" node@22 || fail "npm could not fetch Node 22"
    fi
fi
say "everything is there (Rust $found_rust)"
