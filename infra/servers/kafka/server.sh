# One Kafka broker that is its own controller (KRaft), or one node of a cluster of them. Controllers listen one port above.
# KAFKA_HEAP, KAFKA_JVM_OPTIONS; KAFKA_PROPERTIES, a file of further properties, beside which one with a node's number behind its
# name (`properties.2`) is for that node alone; KAFKA_USERS, a file of users of SCRAM, each with its password, a line each.
# shellcheck shell=bash disable=SC2154
port=${KAFKA_PORT:-19092}

jars=$cache/kafka-4.3.1
node=1
nodes=1
if [[ $instance =~ -([0-9]+)-of-([0-9]+)$ ]]; then
    node=${BASH_REMATCH[1]}
    nodes=${BASH_REMATCH[2]}
fi
first_port=$port
port=$((first_port + 2 * (node - 1)))

version() { echo 4.3.1; }
ports() { echo "$port $((port + 1))"; }
port_setting() { echo "KAFKA_PORT, and the one above it"; }

installed() { java_of 17 >/dev/null && [ -e "$jars/kafka.jsa" ]; }

install() {
    local java
    java=$(java_of 17)
    [ -d "$jars" ] || fetch_jars "$jars"
    # An archive of the loaded classes saves every later start some 40 % of its time. The JVM writes it as it ends.
    say "$instance: one start to learn from"
    dir=$(mktemp -d)
    instance=kafka node=1 nodes=1 first_port=$((port + 500)) port=$((port + 500))
    prepare
    run "$java" -XX:ArchiveClassesAtExit="$dir/kafka.jsa" kafka.Kafka "$dir/server.properties" >"$dir/log" 2>&1 &
    local learner=$!
    until ready; do
        kill -0 "$learner" 2>/dev/null || fail "kafka ended at its first start: $(last_words "$dir/log"); all of it: $dir/log"
        sleep 0.2
    done
    kill "$learner"
    # 143: ended by the signal that it was sent.
    wait "$learner" || true
    mv "$dir/kafka.jsa" "$jars/kafka.jsa"
    rm -rf "$dir"
}

run() { # java, JVM option, main class, arguments
    local java=$1 option=$2
    shift 2
    # The class path in one order: an archive of classes holds for that very text.
    local class_path
    class_path=$(printf '%s:' "$jars"/*.jar)
    # shellcheck disable=SC2086
    MALLOC_ARENA_MAX=2 exec "$java" -Xmx"${KAFKA_HEAP:-512m}" -XX:+UseSerialGC "$option" ${KAFKA_JVM_OPTIONS:-} \
        -Djava.awt.headless=true -Dlog4j2.configurationFile="$dir/log4j2.properties" -cp "$class_path" "$@"
}

prepare() {
    local java
    java=$(java_of 17)
    write_configuration
    if [ ! -f "$dir/data/meta.properties" ]; then
        local users=() user password mechanism
        if [ -f "${KAFKA_USERS:-}" ]; then
            while read -r user password; do
                for mechanism in SCRAM-SHA-256 SCRAM-SHA-512; do users+=(--add-scram "$mechanism=[name=$user,password=$password]"); done
            done <"$KAFKA_USERS"
        fi
        # The archive of classes, which saves half of this too, is not there yet at the start that makes it.
        local option=-XX:TieredStopAtLevel=1
        if [ -e "$jars/kafka.jsa" ]; then option=-XX:SharedArchiveFile=$jars/kafka.jsa; fi
        # One name for the nodes of a cluster: 16 bytes, base64.
        (run "$java" "$option" kafka.tools.StorageTool format -t YXRlbGllci1zZXJ2ZXJzLQ \
            -c "$dir/server.properties" "${users[@]}") >"$dir/format.log" 2>&1 || fail "$instance: its folder cannot be formatted: $(last_words "$dir/format.log")"
    fi
}

write_configuration() {
    local voters='' other copies=$((nodes < 3 ? nodes : 3)) in_sync=$((nodes < 3 ? 1 : 2))
    for other in $(seq "$nodes"); do voters+=${voters:+,}$other@127.0.0.1:$((first_port + 2 * other - 1)); done
    cat >"$dir/server.properties" <<END
process.roles=broker,controller
node.id=$node
controller.quorum.voters=$voters
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1))
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
log.dirs=$dir/data

# Topics come from infra/kafka/topics.toml alone.
auto.create.topics.enable=false
default.replication.factor=$copies
min.insync.replicas=$in_sync
offsets.topic.replication.factor=$copies
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=$copies
transaction.state.log.min.isr=$in_sync
transaction.state.log.num.partitions=8
share.coordinator.state.topic.replication.factor=$copies
share.coordinator.state.topic.min.isr=$in_sync
share.coordinator.state.topic.num.partitions=1

# One machine: brokers, members and transactions that are gone are noticed within seconds, and a start after a crash waits no longer.
broker.heartbeat.interval.ms=400
broker.session.timeout.ms=1500
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.consumer.min.session.timeout.ms=1000
group.consumer.session.timeout.ms=6000
group.consumer.min.heartbeat.interval.ms=200
group.consumer.heartbeat.interval.ms=500
group.consumer.assignment.interval.ms=0
transaction.abort.timed.out.transaction.cleanup.interval.ms=500

# Small: the cleaner alone takes 128 MiB by default.
log.cleaner.dedupe.buffer.size=4194304
log.segment.bytes=67108864
log.index.size.max.bytes=1048576
offsets.topic.segment.bytes=8388608
transaction.state.log.segment.bytes=8388608
num.network.threads=2
num.io.threads=4
background.threads=2
END
    if [ -n "${KAFKA_PROPERTIES:-}" ]; then
        cat "$KAFKA_PROPERTIES" >>"$dir/server.properties"
        if [ -f "$KAFKA_PROPERTIES.$node" ]; then cat "$KAFKA_PROPERTIES.$node" >>"$dir/server.properties"; fi
    fi
    cat >"$dir/log4j2.properties" <<END
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{HH:mm:ss.SSS} %p %c{1} %m%n
rootLogger.level = info
rootLogger.appenderRef.out.ref = out
logger.settings.name = org.apache.kafka.common.config.AbstractConfig
logger.settings.level = warn
END
}

serve() { run "$(java_of 17)" -XX:SharedArchiveFile="$jars/kafka.jsa" kafka.Kafka "$dir/server.properties"; }

# Said after the broker is registered and caught up: it serves every request by then.
ready() { grep -q 'Kafka Server started' "$dir/log" 2>/dev/null && answers "$port"; }
