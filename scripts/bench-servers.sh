#!/usr/bin/env bash
# Prints the figures that need real servers or something that goes wrong, each side by side in one run:
#
#   scripts/bench-servers.sh [python|brokers|chain|instances|listeners|cancel|telemetry|takeover|servers]…
#
# ATELIER_BENCH_ROUNDS (3) says how often, ATELIER_BENCH_PICTURES (200) how many pictures go through a whole pipeline.
set -euo pipefail
cd "$(dirname "$0")/.."
all="python brokers chain instances listeners cancel telemetry takeover servers"
# One set of packages for every command, so that nothing is built twice with other features.
packages="-p atelier -p atelier-broker -p atelier-runtime"
of_runtime="" of_pipeline=""
for figure in ${*:-$all}; do
    case " $all " in
    *" $figure "*) ;;
    *)
        echo "there is no figure \`$figure\`; choose from: $all" >&2
        exit 2
        ;;
    esac
    case $figure in
    python | brokers | chain | instances) of_runtime+=" $figure" ;;
    *) of_pipeline+=" $figure" ;;
    esac
done
lscpu | sed -n 's/^Model name: */processor: /p'
echo "threads: $(nproc), load: $(cut -d' ' -f1-3 /proc/loadavg)"
# shellcheck disable=SC2086
{
    cargo bench --quiet --no-run $packages --bench exactly_once --bench pipeline --bench broker
    [ -z "$of_runtime" ] || cargo bench --quiet $packages --bench exactly_once -- $of_runtime
    [ -z "$of_pipeline" ] || cargo bench --quiet $packages --bench pipeline -- $of_pipeline
}
