#!/bin/sh -e
# start.sh BUNDLE PORT
BUNDLE=$(realpath "$1") && cd "$(dirname "$0")"
export BUNDLE PYTHONPATH=../../../.. OMP_NUM_THREADS=1 BENTOML_DO_NOT_TRACK=True
exec .venv/bin/bentoml serve server:Classify --host 127.0.0.1 --port "$2"
