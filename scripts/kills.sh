#!/usr/bin/env bash
# The long kill run: every process (six stages, gateway, broker) is killed with -9 at random places while tasks run, then
# topics and ledger are compared. KILLS of each process, TASKS, and the SEED that repeats the run.
set -euo pipefail
cd "$(dirname "$0")/.."
export ATELIER_KILLS="${KILLS:-30}" ATELIER_KILL_TASKS="${TASKS:-60}" ATELIER_KILL_SEED="${SEED:-$RANDOM}"
cargo test -p atelier --test kills -- --nocapture
