#!/bin/sh -e
# start.sh BUNDLE PORT
BUNDLE=$(realpath "$1") && cd "$(dirname "$0")"
export BUNDLE PYTHONPATH=../../../.. OMP_NUM_THREADS=1
exec .venv/bin/python server.py --address 127.0.0.1 --port "$2" --log-level warning
