#!/bin/sh -e
# start.sh BUNDLE PORT
BUNDLE=$(realpath "$1") && cd "$(dirname "$0")"
export BUNDLE PYTHONPATH=../../../..:. OMP_NUM_THREADS=1 MLSERVER_DEBUG=false
export MLSERVER_PARALLEL_WORKERS="$(.venv/bin/python -c 'from benchmarks.servers.peers.classifier import CORES; print(CORES)')"
export MLSERVER_MODEL_NAME="$(basename "$(dirname "$BUNDLE")")" MLSERVER_HOST=127.0.0.1
export MLSERVER_HTTP_PORT="$2" MLSERVER_GRPC_PORT=$(($2 + 1)) MLSERVER_METRICS_PORT=$(($2 + 2))
exec .venv/bin/mlserver start .
