#!/bin/sh -e
# start.sh BUNDLE PORT
BUNDLE=$(realpath "$1") && cd "$(dirname "$0")"
export BUNDLE PYTHONPATH=../../../.. OMP_NUM_THREADS=1 RAY_USAGE_STATS_ENABLED=0 RAY_SERVE_THROUGHPUT_OPTIMIZED=1
exec .venv/bin/python server.py "$2"
