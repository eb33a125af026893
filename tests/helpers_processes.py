"""Several processes that talk over gloo. They are forks of a process of their own: imports are done once."""

import os
import sys

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def run_processes(function, world, folder, *arguments):
    """``function(rank, world, *arguments)`` on each of ``world`` processes; what one raises is raised here."""
    mp.set_forkserver_preload(["lightning.pytorch", "itmatch.training"])
    arguments = (function, world, str(folder), arguments)
    mp.start_processes(_process, args=arguments, nprocs=world, start_method="forkserver")


def _process(rank, function, world, folder, arguments):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store{world}", rank=rank, world_size=world)
    function(rank, world, *arguments)
    dist.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # a thread of torch that still lets go of a tensor while Python ends would abort the process
