# One Elasticsearch node: the server and its HTTP module, without a password, without the modules that are in no package registry
# (scripts, reindexing, security). Transport listens one port above. ELASTICSEARCH_HEAP. It needs a JDK of 21 or newer.
# shellcheck shell=bash disable=SC2154
port=${ELASTICSEARCH_PORT:-19200}

home=$cache/elasticsearch-9.5.3

version() { echo 9.5.3; }
ports() { echo "$port $((port + 1))"; }
port_setting() { echo "ELASTICSEARCH_PORT, and the one above it"; }
address() { echo "http://127.0.0.1:$port"; }
installed() { java_of 21 >/dev/null && [ -e "$home/lib/ElasticsearchNode.class" ]; }

install() {
    local java parts=$home.parts
    java=$(java_of 21)
    [ -x "$(dirname "$(command -v "$java")")/javac" ] || fail "elasticsearch needs a JDK, \`$java\` has no compiler beside it: install openjdk-21-jdk-headless or newer, or set JAVA_HOME"
    rm -rf "$parts"
    mkdir -p "$parts/modules/transport-netty4" "$parts/plugins"
    fetch_jars "$parts/lib"
    # What a module has may not be on the class path too.
    mv "$parts"/lib/{transport-netty4,elasticsearch-ssl-config,netty}-*.jar "$parts/modules/transport-netty4/"
    cat >"$parts/modules/transport-netty4/plugin-descriptor.properties" <<END
name=transport-netty4
description=HTTP and transport
version=9.5.3
elasticsearch.version=9.5.3
java.version=21
classname=org.elasticsearch.transport.netty4.Netty4Plugin
END
    quietly "$(dirname "$(command -v "$java")")/javac" -cp "$parts/lib/*" -d "$parts/lib" "$here/elasticsearch/ElasticsearchNode.java" ||
        fail "elasticsearch: its main class cannot be compiled; javac says why above"
    rm -rf "$home"
    mv "$parts" "$home"
}

prepare() { mkdir -p "$dir/config" "$dir/tmp"; }

serve() {
    exec "$(java_of 21)" -Xmx"${ELASTICSEARCH_HEAP:-512m}" -XX:+UseSerialGC -XX:+ExitOnOutOfMemoryError \
        -Djava.io.tmpdir="$dir/tmp" --add-modules jdk.incubator.vector --enable-native-access=ALL-UNNAMED \
        -cp "$home/lib:$home/lib/*" ElasticsearchNode "$home" "$dir" "$port"
}

# `GET /` is a module of the distribution.
ready() { http_ok "$(address)/_cluster/health?wait_for_status=yellow&timeout=1s"; }
