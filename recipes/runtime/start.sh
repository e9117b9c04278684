#!/bin/sh
# What a container starts with. A few words are ours (`spark help` lists them); any other command runs as it is, as the
# container's first process, with nothing added to its environment.
case "${1-}" in
    serve | ray-head | ray-worker | cluster | info | selftest | doctor | health | help | --help | -h)
        exec /usr/bin/python3 -I -S -B /usr/lib/sparkbake "$@"
        ;;
    '')
        exec /bin/bash
        ;;
    -*)
        echo "spark: $1: expected a command before it: serve MODEL $1 ..., or vllm serve MODEL $1 ...; see: help" >&2
        exit 2
        ;;
esac
exec "$@"
