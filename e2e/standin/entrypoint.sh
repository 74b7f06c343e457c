#!/bin/sh
# The entry point of the stand-in for registry:2: takes the same arguments as the official one.
set -eu

case "${1:-}" in
*.yaml | *.yml) set -- registry serve "$@" ;;
serve | garbage-collect | help | -*) set -- registry "$@" ;;
esac

exec "$@"
