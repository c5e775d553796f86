#!/usr/bin/env bash
# Trains on a Cloud TPU pod slice, the same command on every host. See docs/guides/pods_and_clusters.md.
#
#   export TPU=dwnet ZONE=us-west4-a     # and TYPE, RUNTIME for another slice than 32 chips of v5e
#   scripts/tpu_pod.sh create [--spot]   # the slice, and this revision installed on every host
#   scripts/tpu_pod.sh train --config=configs/imagenet.py:dwnet_tiny \
#     --workdir=gs://bucket/runs/dwnet_tiny --config.dataset.data_dir=gs://bucket/tensorflow_datasets
#   scripts/tpu_pod.sh logs              # what the first host prints
#   scripts/tpu_pod.sh stop              # as a preemption does: the run saves, and exits with 143
#   scripts/tpu_pod.sh delete
#
# `train` again continues: after `stop` or a preemption, also on a slice of another size.
set -euo pipefail

usage() {
  sed -n '2,12s/^# \{0,1\}//p' "$0" >&2
  exit 1
}

on_hosts() { # on_hosts all|0 COMMAND
  gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker="$1" --command="$2"
}

create() {
  # Runtimes: v2-alpha-tpuv6e for v6e, v2-alpha-tpuv5 for v5p, tpu-ubuntu2204-base for v4.
  gcloud compute tpus tpu-vm create "$TPU" --zone="$ZONE" \
    --accelerator-type="${TYPE:-v5litepod-32}" --version="${RUNTIME:-v2-alpha-tpuv5-lite}" "$@"
  on_hosts all "
    set -e
    curl -LsSf https://astral.sh/uv/install.sh | sh
    git clone '${REPOSITORY:-$(git remote get-url origin)}' dwconv_jax
    cd dwconv_jax
    git checkout '$(git rev-parse HEAD)'
    ~/.local/bin/uv venv --python 3.11 .venv
    ~/.local/bin/uv pip install --python .venv/bin/python '.[train]' 'jax[tpu]'"
}

train() {
  # Left to itself, so that a lost connection does not end the run.
  on_hosts all "cd dwconv_jax
    nohup .venv/bin/python main.py --coordinator=auto $(printf '%q ' "$@") \
      > train.log 2>&1 < /dev/null &
    echo \$! > train.pid"
}

command=${1:-help}
shift || true
case $command in
  create | train | logs | stop | delete) : "${TPU:?the name of the slice}" "${ZONE:?its zone}" ;;
  *) usage ;;
esac
case $command in
  create) create "$@" ;;
  train) train "$@" ;;
  logs) on_hosts 0 "tail -n 50 -f dwconv_jax/train.log" ;;
  stop) on_hosts all "kill -TERM \$(cat dwconv_jax/train.pid)" ;;
  delete) gcloud compute tpus tpu-vm delete "$TPU" --zone="$ZONE" ;;
esac
