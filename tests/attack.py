"""Attack every reader with damaged files, and count what comes of it.

python tests/attack.py                          2 000 inputs, a table by area
python tests/attack.py --inputs 6000 --seed 1   more, and others
python tests/attack.py --area annotations --show 5

Of each input one of these comes: *clear*, an error of one line that names the file; *unclear*, an error that is meant
for people and does not; *traceback*, an exception of another kind; *silent*, read without a word though a NaN, an
infinity or a place outside came out, or a command ran; *hang*, nothing within the time; *killed*, all the memory taken;
*accepted*, read, and nothing wrong can be told from what came out (a changed number of a picture or a weight, say).

Each area runs in a process of its own, with bounds on its memory and on the time of each input. PYTHONPATH says which
itmatch is attacked: that of another worktree can be.
"""

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import warnings
from collections import Counter, defaultdict
from pathlib import Path
from random import Random

HERE = Path(__file__).parent
LABELS = ("clear", "unclear", "traceback", "silent", "hang", "killed", "accepted")
MEMORY = 4 << 30  # bytes of addresses; the libraries alone take less than one
SECONDS = 10.0  # an input may take
START_SECONDS = 240.0  # until the first input: imports, and for some a training run


def targets(area=None):
    """All targets, or those of an area."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    os.environ.pop("ITMATCH_DEBUG", None)
    warnings.simplefilter("ignore")
    sys.path[1:1] = [str(HERE), str(HERE / "fuzz")]
    from helpers_data import DATA
    from helpers_evaluation import EVALUATION
    from helpers_layouts_damage import LAYOUTS
    from helpers_models import MODELS

    return [target for target in DATA + LAYOUTS + EVALUATION + MODELS if area in (None, target.area)]


def attack(target, seed, first, count, pipe):
    """In the child: the inputs of one target from some on; sends a label and a message of each."""
    import torch
    from helpers_targets import Prepared

    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    with tempfile.TemporaryDirectory() as folder:
        torch.set_num_threads(1)  # OpenMP waits for ever in a fork of a process that has used several threads
        prepared = Prepared(target, folder)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        pipe.send(None)  # ready
        for index in range(first, count):
            name, content = prepared.damaged(Random(f"{seed}:{target.area}:{target.name}:{index}"))
            label, message = prepared.attempt(name, content)
            pipe.send((label, f"{name}: {message}"))


def results(target, seed, count):
    """Labels and messages of all inputs of a target; a process that dies or hangs is replaced by another."""
    fork = multiprocessing.get_context("fork")  # what is imported need not be imported again
    done = 0
    while done < count:
        mine, theirs = fork.Pipe(duplex=False)
        process = fork.Process(target=attack, args=(target, seed, done, count, theirs))
        process.start()
        theirs.close()
        try:
            if not mine.poll(START_SECONDS):
                raise RuntimeError(f"{target.area} ({target.name}): its good files cannot be written in time")
            mine.recv()
            while done < count:
                if not mine.poll(SECONDS):
                    yield "hang", f"input {done}"
                    done += 1
                    break
                yield mine.recv()
                done += 1
        except EOFError:
            yield "killed", f"input {done}"
            done += 1
        finally:
            process.kill()
            process.join()


def table(tally):
    """The counts of every area, and their sum, as Markdown."""
    rows = [*tally.items(), ("all", sum(tally.values(), Counter()))]
    lines = [f"| area | inputs | {' | '.join(LABELS)} |", "|---" * (len(LABELS) + 2) + "|"]
    lines += [f"| {area} | {sum(c.values())} | {' | '.join(str(c[label]) for label in LABELS)} |" for area, c in rows]
    return "\n".join(lines)


def main():
    """Run the attack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=2000, help="in all (2000); slow targets get fewer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--area", help="this one alone")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="N messages of each bad kind, to stderr")
    options = parser.parse_args()
    chosen = targets(options.area)
    weights = [1 / (1 + 5 * target.seconds) for target in chosen]
    tally = defaultdict(Counter)
    for target, weight in zip(chosen, weights, strict=True):
        shown = Counter()
        for label, message in results(target, options.seed, max(1, round(options.inputs * weight / sum(weights)))):
            tally[target.area][label] += 1
            shown[label] += 1
            if label not in ("clear", "accepted") and shown[label] <= options.show:
                print(f"{target.area} ({target.name}) {label}: {message[:400]!r}", file=sys.stderr, flush=True)
        print(f"{target.area} ({target.name}): {dict(shown)}", file=sys.stderr, flush=True)
    print(table(tally))


if __name__ == "__main__":
    main()
