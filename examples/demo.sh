#!/bin/sh
# Runs examples/flights from end to end in a directory of its own: a new repository, as a user's
# would be. Usage: demo.sh DIRECTORY
set -eu

source=$(cd "$(dirname "$0")/flights" && pwd)
target=$1

if [ ! -d "$target/flights/.git" ]; then
    mkdir -p "$target"
    cp -R "$source" "$target/flights"
    cd "$target/flights"
    git init --quiet --initial-branch=main
    dvc init --quiet
    git add --all
    git -c user.name=demo -c user.email=demo@localhost commit --quiet --message "Start from the flights example"
else
    cd "$target/flights"
fi

mlp run

cat <<TEXT

what was made, in $target/flights
  data/, models/   the pipeline's outputs, versioned by DVC (dvc.lock)
  mlflow.db        the run, with one nested run for each stage, and the model
  .mlp/            logs and checkpoints

next, after: cd $target/flights
  mlp runs show                   what the run was made from, and what it came to
  mlp train --set train.lr=0.01   train again with another param; then: mlp runs diff
  mlp ui                          MLflow's pages on all of it
TEXT
