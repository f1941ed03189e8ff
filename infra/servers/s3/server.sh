# S3 by versitygw, on a folder (S3_DATA), with a bucket `atelier`.
# shellcheck shell=bash disable=SC2154
port=${S3_PORT:-17070}
data=${S3_DATA:-$dir/data}

program=$cache/versitygw-1.8.0

version() { echo 1.8.0; }
address() { echo "http://127.0.0.1:$port"; }
installed() { [ -x "$program" ]; }

install() {
    need_go
    say "s3: building versitygw by go install (some two minutes)"
    local bin
    bin=$(mktemp -d)
    GOBIN=$bin quietly go install -trimpath -ldflags='-s -w' github.com/versity/versitygw/cmd/versitygw@v1.8.0 ||
        fail "s3: versitygw could not be built; Go says why above"
    mkdir -p "$cache"
    mv "$bin/versitygw" "$program"
    rm -rf "$bin"
}

prepare() {
    mkdir -p "$data" "$dir/versions"
    [ -f "$dir/keys" ] || (umask 077 && echo "atelier $(secret)" >"$dir/keys")
}

serve() {
    local access secret
    read -r access secret <"$dir/keys"
    ROOT_ACCESS_KEY=$access ROOT_SECRET_KEY=$secret exec "$program" --port "127.0.0.1:$port" --health /health --quiet \
        posix --versioning-dir "$dir/versions" "$data"
}

ready() { http_ok "$(address)/health"; }

after_start() {
    [ ! -d "$data/atelier" ] || return 0
    # The key goes in by a file, not by the command line, which everybody may read.
    sed 's/\([^ ]*\) \(.*\)/user = "\1:\2"/' "$dir/keys" |
        curl --noproxy '*' -fs -m 10 -K - --aws-sigv4 aws:amz:us-east-1:s3 -X PUT "$(address)/atelier" \
            -H "x-amz-content-sha256: $(sha256sum </dev/null | cut -d' ' -f1)" ||
        fail "s3: the bucket atelier cannot be made; its log: $dir/log"
}

exports() {
    local access secret
    read -r access secret <"$dir/keys"
    echo "export AWS_ACCESS_KEY_ID=$access AWS_SECRET_ACCESS_KEY=$secret AWS_REGION=us-east-1"
}
