#!/usr/bin/env bash
# The real servers, on loopback: installs, starts, checks and stops them, all in one way.
#
#   servers.sh install [NAME…]   fetches what is missing into the cache folder
#   servers.sh installed NAME    fails where something is missing to start it
#   servers.sh start [NAME…]     starts those that do not run, returns when each answers; a line of health each
#   servers.sh status [NAME…]    a line each; fails where one is down
#   servers.sh stop [NAME…]      ends them in good order; without names, all that this folder's `start` started
#   servers.sh kill [NAME…]      ends them at once, as a crash does; `start` goes on with what they had written
#   servers.sh env               exports for their clients: passwords and keys, made at the first start
#   servers.sh guard             waits for the end of its input, then kills all of this folder's and removes it (for tests)
#
# Without names: kafka postgres redis s3 prometheus jaeger (ATELIER_SERVERS names others); neo4j and elasticsearch only by name.
# ATELIER_SERVERS_DIR: what they write, data/servers of the checkout by default. KAFKA_BROKERS=3: three brokers.
# KAFKA_PORT, POSTGRES_PORT, …: another port than the default, which is the first line of each server.sh.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$here/lib.sh"

command=${1:-help}
shift || true

# Every instance of a server: three brokers are three of them. One of them may be named too: kafka-2-of-3.
instances() {
    local name node
    for name in "$@"; do
        [ -f "$here/${name%%-*}/server.sh" ] || fail "there is no server \`$name\`; there are: $(cd "$here" && echo */ | tr -d /)"
        if [ "$name" = kafka ] && [ "${KAFKA_BROKERS:-1}" != 1 ]; then
            for node in $(seq "$KAFKA_BROKERS"); do echo "kafka-$node-of-$KAFKA_BROKERS"; done
        else
            echo "$name"
        fi
    done
}

# What `stop` and `guard` look at: everything that was ever started in this folder.
started() {
    local pid_file
    for pid_file in "$root"/*/pid; do
        if [ -e "$pid_file" ]; then basename "$(dirname "$pid_file")"; fi
    done
}

# Runs one function of one instance's server.sh with its variables, in a shell of its own.
of() { # instance, function, arguments
    (become "$@")
}

become() {
    instance=$1
    dir=$root/$instance
    # shellcheck source=/dev/null
    . "$here/${instance%%-*}/server.sh"
    "${@:2}"
}

launch() { # instance
    local instance=$1 dir=$root/$1 port
    for port in $(of "$instance" ports); do
        if answers "$port"; then
            fail "$instance: port $port is taken: stop what listens there, or set another ($(of "$instance" port_setting))"
        fi
    done
    mkdir -p "$dir"
    of "$instance" prepare
    if [ -f "$dir/log" ]; then mv "$dir/log" "$dir/log.before"; fi
    # A session of its own: Ctrl-C in the terminal of the caller is not meant for it. It keeps neither lock nor terminal.
    setsid "$here/servers.sh" serve "$instance" >"$dir/log" 2>&1 </dev/null 9>&- &
    remember "$!" "$dir"
}

line() { # instance, health
    printf '%-14s %-10s %-52s %s\n' "$1" "$(of "$1" version)" "$(of "$1" address)" "$2"
}

start() {
    local instance waiting=()
    local -A began
    for instance in "$@"; do of "$instance" installed || of "$instance" install; done
    for instance in "$@"; do
        if alive "$root/$instance"; then
            line "$instance" "runs already"
        else
            began[$instance]=$(now_ms)
            launch "$instance"
            waiting+=("$instance")
        fi
    done
    # Together: of three brokers none is ready before the second runs.
    wait_for "${waiting[@]}"
}

wait_for() { # instances; reads began
    local instance still took patience=$((SECONDS + ${SERVERS_PATIENCE_S:-120}))
    while [ $# -gt 0 ]; do
        still=()
        for instance in "$@"; do
            if of "$instance" ready; then
                took=$(($(now_ms) - began[$instance]))
                of "$instance" after_start
                line "$instance" "ready in $((took / 1000)).$((took % 1000 / 100)) s"
                continue
            fi
            alive "$root/$instance" || fail "$instance ended while it started: $(last_words "$root/$instance/log"); all of it: $root/$instance/log"
            [ "$SECONDS" -lt "$patience" ] || fail "$instance does not answer; its log: $root/$instance/log"
            still+=("$instance")
        done
        set -- "${still[@]}"
        sleep 0.05
    done
}

status() {
    local instance down=0
    for instance in "$@"; do
        if ! alive "$root/$instance"; then line "$instance" down; down=1
        elif of "$instance" ready; then line "$instance" ready
        else line "$instance" "runs and does not answer; its log: $root/$instance/log"; down=1
        fi
    done
    return "$down"
}

# All are told first and then waited for: the last node of a cluster could not end in good order by itself.
end() { # signal (or `good`, each one's own), instances
    local instance dir signal=$1 patience=$((SECONDS + 40))
    shift
    for instance in "$@"; do
        dir=$root/$instance
        if [ "$signal" = good ] && alive "$dir"; then kill "-$(of "$instance" stop_signal)" "$(pid_of "$dir")"
        elif alive "$dir"; then kill "-$signal" "$(pid_of "$dir")"
        fi
    done
    for instance in "$@"; do
        dir=$root/$instance
        [ -e "$dir/pid" ] || continue
        while alive "$dir"; do
            if [ "$SECONDS" -ge "$patience" ]; then
                say "$instance did not end within 40 s and is killed"
                kill -KILL "$(pid_of "$dir")"
                patience=$((SECONDS + 40))
            fi
            sleep 0.05
        done
        rm -f "$dir/pid"
        if [ "$command" != guard ]; then say "$instance stopped"; fi
    done
}

guard() {
    cat >/dev/null
    # shellcheck disable=SC2046
    end KILL $(started)
    rm -rf "$root"
}

# A function, read whole before it runs: an edit meanwhile changes nothing.
main() {
    local chosen signal name instance
    case $command in
        # Not in a shell within the shell: the number that was remembered is to be the server's.
        serve) become "$1" serve ;;
        installed) instances "$1" >/dev/null && of "$1" installed ;;
        install | start | status)
            read -ra default <<<"${ATELIER_SERVERS:-kafka postgres redis s3 prometheus jaeger}"
            [ $# -gt 0 ] || set -- "${default[@]}"
            chosen=$(instances "$@")
            take_turn
            if [ "$command" = install ]; then
                for name in "$@"; do of "$name" installed || of "$name" install; done
                say "installed in $cache: $*"
            else
                # Names hold no spaces.
                # shellcheck disable=SC2086
                "$command" $chosen
            fi
            ;;
        stop | kill)
            take_turn
            if [ $# -gt 0 ]; then chosen=$(instances "$@"); else chosen=$(started); fi
            signal=KILL
            if [ "$command" = stop ]; then signal=good; fi
            # shellcheck disable=SC2086
            end "$signal" $chosen
            ;;
        env) for instance in $(started); do of "$instance" exports; done ;;
        guard) guard ;;
        *) sed -n '2,17s/^# \{0,1\}//p' "$0"; [ "$command" = help ] || exit 2 ;;
    esac
}

main "$@"
