# Neo4j community: Bolt with a password, no HTTP. NEO4J_HEAP.
# shellcheck shell=bash disable=SC2154
port=${NEO4J_PORT:-17687}

jars=$cache/neo4j-5.26.30

version() { echo 5.26.30; }
address() { echo "bolt://127.0.0.1:$port"; }
installed() { java_of 17 >/dev/null && [ -d "$jars" ]; }
install() { java_of 17 >/dev/null && fetch_jars "$jars"; }

prepare() {
    mkdir -p "$dir/conf"
    cat >"$dir/conf/neo4j.conf" <<END
server.default_listen_address=127.0.0.1
server.bolt.enabled=true
server.bolt.listen_address=127.0.0.1:$port
server.bolt.advertised_address=127.0.0.1:$port
server.bolt.tls_level=DISABLED
server.http.enabled=false
server.https.enabled=false
dbms.security.auth_enabled=true
server.memory.heap.max_size=${NEO4J_HEAP:-384m}
server.memory.pagecache.size=64m
# Two databases would take 256 MiB of disk each before the first write.
db.tx_log.preallocate=false
# Nothing is told to anybody.
dbms.usage_report.enabled=false
client.allow_telemetry=false
# A stop would wait ten seconds for idle threads.
internal.server.bolt.thread_pool_shutdown_wait_time=0s
END
    [ -f "$dir/password" ] || (umask 077 && secret >"$dir/password")
    # Only possible before the first start.
    if [ ! -e "$dir/data/databases/system" ]; then
        NEO4J_HOME=$dir NEO4J_CONF=$dir/conf "$(java_of 17)" -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "$jars/*" \
            org.neo4j.cli.AdminTool dbms set-initial-password "$(cat "$dir/password")" >"$dir/password.log" 2>&1 ||
            fail "neo4j: its password cannot be set: $(last_words "$dir/password.log")"
    fi
}

serve() {
    exec "$(java_of 17)" -Xmx"${NEO4J_HEAP:-384m}" -XX:+UseSerialGC -Dlog4j2.disable.jmx=true -Dfile.encoding=UTF-8 \
        --add-opens=java.base/java.nio=ALL-UNNAMED --add-opens=java.base/java.io=ALL-UNNAMED \
        --add-opens=java.base/sun.nio.ch=ALL-UNNAMED \
        -cp "$jars/*" org.neo4j.server.CommunityEntryPoint --home-dir="$dir" --config-dir="$dir/conf" --console-mode
}

# Bolt's greeting with one proposal, version 4.4: the answer is the version that the server takes.
ready() {
    local answer
    answer=$({ exec 3<>"/dev/tcp/127.0.0.1/$port" &&
        printf '\x60\x60\xb0\x17\0\0\x04\x04\0\0\0\0\0\0\0\0\0\0\0\0' >&3 &&
        timeout 2 head -c 4 <&3 | od -An -tx1; } 2>/dev/null) && [ "$answer" = ' 00 00 04 04' ]
}

exports() { echo "export NEO4J_URL=$(address) NEO4J_USER=neo4j NEO4J_PASSWORD=$(cat "$dir/password")"; }
