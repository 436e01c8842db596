#!/usr/bin/env bash
# Makes a CA for trying TLS out, and certificates of it, in a folder (default .certs). Not for production: the CA's key
# lies beside what it signed.
#
#   ca.pem ca.key             whom to believe
#   node.pem node.key         a node's, for the names and addresses in NAMES (default: this machine's and localhost)
#   peer-ca.pem peer.pem …    the same for --peer-tls-*: a CA for nodes alone
#   client.pem client.key     a client's, with the common name CLIENT (default: client)
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-.certs}
names=${NAMES:-$(hostname) localhost 127.0.0.1 ::1}
client=${CLIENT:-client}
days=${DAYS:-365}
mkdir -p "$folder"
cd "$folder"
umask 077

quietly() { "$@" 2>.log || { cat .log >&2; exit 1; }; }

authority() { # FILE NAME
    [ -e "$1.pem" ] && return
    quietly openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days "$days" \
        -subj "/CN=$2" -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign \
        -keyout "$1.key" -out "$1.pem"
}

certificate() { # FILE CA COMMON-NAME NAMES
    local alternatives=() name
    for name in $4; do
        if [[ $name =~ ^[0-9.]+$ || $name == *:* ]]; then alternatives+=("IP:$name"); else alternatives+=("DNS:$name"); fi
    done
    quietly openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$3" \
        -keyout "$1.key" -out "$1.csr"
    {
        echo "basicConstraints=CA:FALSE"
        echo "extendedKeyUsage=serverAuth,clientAuth"
        if ((${#alternatives[@]})); then echo "subjectAltName=$(IFS=, && echo "${alternatives[*]}")"; fi
    } >.extensions
    quietly openssl x509 -req -in "$1.csr" -CA "$2.pem" -CAkey "$2.key" -CAcreateserial -days "$days" \
        -extfile .extensions -out "$1.pem"
    rm -f "$1.csr" .extensions
}

authority ca "Raftoral trial CA"
authority peer-ca "Raftoral trial CA of nodes"
certificate node ca "$(set -- $names && echo "$1")" "$names"
certificate peer peer-ca "$(set -- $names && echo "$1")" "$names"
certificate client ca "$client" ""
rm -f .log ./*.srl
echo "certs: in $PWD: ca.pem, node.pem, peer-ca.pem, peer.pem, client.pem and their keys"
