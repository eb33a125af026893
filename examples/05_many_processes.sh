#!/usr/bin/env bash
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
# Train on several processes; the loss, and its gradient, is that of one process with the batches of all.
#   bash examples/05_many_processes.sh                                       two processes on this machine
#   PROCESSES=4 bash examples/05_many_processes.sh                           four, one a GPU where there are GPUs
#   NODES=2 HEAD=host0:29500 bash examples/05_many_processes.sh              on each of two machines
#   sbatch examples/05_many_processes.sh                                     under SLURM, as many as the lines above say
# Options go on to `itmatch fit`. --data.batch_size is that of one process. Start all machines in a folder that they
# share: the test after the training reads the checkpoint there.
set -euo pipefail

fit=(fit --config demo --trainer.strategy ddp)
if [[ -n "${SLURM_NTASKS_PER_NODE:-}" ]]; then
    srun itmatch "${fit[@]}" --trainer.num_nodes "$SLURM_JOB_NUM_NODES" \
        --trainer.devices "$SLURM_NTASKS_PER_NODE" "$@"
elif [[ "${NODES:-1}" -gt 1 ]]; then
    torchrun --nnodes "$NODES" --rdzv-backend c10d --rdzv-endpoint "$HEAD" \
        --nproc-per-node "${PROCESSES:-2}" -m itmatch "${fit[@]}" \
        --trainer.num_nodes "$NODES" --trainer.devices "${PROCESSES:-2}" "$@"
else
    itmatch "${fit[@]}" --trainer.devices "${PROCESSES:-2}" "$@"
fi
