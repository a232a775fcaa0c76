#!/bin/sh
# A part of a study for each task of an array job; README.md beside it says what comes before and after.
#
#   sbatch slurm.sh STUDY OUT      the study's manifest, and the folder in which the parts are gathered
#
#SBATCH --job-name=shiftlens
#SBATCH --array=1-16
#SBATCH --cpus-per-task=4
#SBATCH --mem=2G
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
set -eu

study=$1
out=$2
# How many parts there are. It is asked for by name where a single task is started again: an array of one has one task.
parts=${PARTS:-$SLURM_ARRAY_TASK_COUNT}

# A task that was stopped, by its time limit or with its machine, goes on where it was when it is started again.
srun shiftlens run "$study" \
    --shard "$SLURM_ARRAY_TASK_ID/$parts" \
    --out "$out/part-$SLURM_ARRAY_TASK_ID" \
    --direction-from "$out/direction"
