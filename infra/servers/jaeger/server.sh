# Jaeger 2 with traces in memory. The query API is on the port, OTLP by gRPC one above it, OTLP by HTTP two, health three, gRPC queries four.
# shellcheck shell=bash disable=SC2154
port=${JAEGER_PORT:-16686}

program=$cache/jaeger-1.76.0

version() { echo 1.76.0; }
ports() { echo "$port $((port + 1)) $((port + 2)) $((port + 3)) $((port + 4))"; }
port_setting() { echo "JAEGER_PORT, and the four above it"; }
address() { echo "http://127.0.0.1:$port, OTLP at 127.0.0.1:$((port + 1))"; }
installed() { [ -x "$program" ]; }

install() {
    need_go
    say "jaeger: building it from its Go module (some three minutes)"
    local module source
    module=$(go mod download -json github.com/jaegertracing/jaeger@v1.76.0 | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
    [ -n "$module" ] || fail "jaeger: Go could not fetch its module"
    # `go install` refuses a module with a replace line; its source in a folder of one's own builds.
    source=$(mktemp -d)
    cp -r "$module/." "$source"
    chmod -R u+w "$source"
    mkdir -p "$cache"
    (cd "$source" && quietly go build -trimpath -buildvcs=false -ldflags='-s -w' -o "$program.part" ./cmd/jaeger) ||
        fail "jaeger: it could not be built; Go says why above"
    mv "$program.part" "$program"
    rm -rf "$source"
}

prepare() {
    cat >"$dir/jaeger.yaml" <<END
service:
  extensions: [jaeger_storage, jaeger_query, healthcheckv2]
  pipelines: {traces: {receivers: [otlp], processors: [batch], exporters: [jaeger_storage_exporter]}}
  telemetry: {resource: {service.name: jaeger}, metrics: {level: none}, logs: {level: warn}}
extensions:
  healthcheckv2: {use_v2: true, http: {endpoint: "127.0.0.1:$((port + 3))"}}
  jaeger_storage: {backends: {memory: {memory: {max_traces: 50000}}}}
  # Without the setting it would trace its own queries.
  jaeger_query:
    storage: {traces: memory}
    enable_tracing: false
    http: {endpoint: "127.0.0.1:$port"}
    grpc: {endpoint: "127.0.0.1:$((port + 4))"}
receivers: {otlp: {protocols: {grpc: {endpoint: "127.0.0.1:$((port + 1))"}, http: {endpoint: "127.0.0.1:$((port + 2))"}}}}
processors: {batch: {timeout: 200ms}}
exporters: {jaeger_storage_exporter: {trace_storage: memory}}
END
}

serve() { exec "$program" --config "$dir/jaeger.yaml"; }

ready() { http_ok "http://127.0.0.1:$((port + 3))/status" && answers "$port"; }
