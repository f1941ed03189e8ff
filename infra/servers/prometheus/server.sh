# Prometheus of Debian. Its package is unpacked, not installed: installed it would start a service on every interface.
# ATELIER_METRICS: where Atelier's gateway listens.
# shellcheck shell=bash disable=SC2154
port=${PROMETHEUS_PORT:-19090}

unpacked=$cache/prometheus

version() { "$unpacked/usr/bin/prometheus" --version 2>&1 | sed -n 's/^prometheus, version \([0-9.]*\).*/\1/p'; }
address() { echo "http://127.0.0.1:$port"; }
installed() { [ -x "$unpacked/usr/bin/prometheus" ]; }

install() {
    need apt-get "prometheus comes from a Debian package; leave prometheus out"
    say "prometheus: fetching Debian's package"
    local folder
    folder=$(mktemp -d)
    # apt compares the package with the signed list, and fetches as a user of its own.
    if [ "$(id -u)" -eq 0 ]; then chown _apt "$folder"; fi
    (cd "$folder" && apt-get download -qq prometheus) || fail "prometheus: apt-get could not download it: run apt-get update"
    mkdir -p "$cache"
    dpkg-deb -x "$folder"/prometheus_*.deb "$folder/unpacked"
    rm -rf "$unpacked"
    mv "$folder/unpacked" "$unpacked"
    rm -rf "$folder"
}

prepare() {
    cat >"$dir/prometheus.yml" <<END
global: {scrape_interval: 5s, evaluation_interval: 5s}
rule_files: ["$(cd "$here/../prometheus" && pwd)/rules.yml"]
scrape_configs:
  - job_name: atelier
    static_configs: [{targets: ["${ATELIER_METRICS:-127.0.0.1:8080}"]}]
  - job_name: prometheus
    static_configs: [{targets: ["127.0.0.1:$port"]}]
END
}

serve() {
    exec "$unpacked/usr/bin/prometheus" --config.file="$dir/prometheus.yml" --storage.tsdb.path="$dir/data" \
        --storage.tsdb.retention.time=30d --web.listen-address="127.0.0.1:$port" \
        --web.console.templates="$unpacked/usr/share/prometheus/consoles" \
        --web.console.libraries="$unpacked/usr/share/prometheus/console_libraries"
}

ready() { http_ok "$(address)/-/ready"; }
