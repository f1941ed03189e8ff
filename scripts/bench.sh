#!/usr/bin/env bash
# Prints the figures: pipeline against plain loop, latency, memory, against rembg (where REMBG names one), the runtime's
# no-op stage, and the embedded broker. Ratios are of runs side by side.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release -p atelier -p atelier-broker
cargo bench -p atelier --bench pipeline
cargo bench -p atelier-runtime
cargo bench -p atelier-broker
