"""Where the time of scoring goes: shares of the work of each row of scoring.py, by kind of operation.

    python examples/benchmarks/operations.py --threads 1

docs/benchmarks.md says how to read the table. With several threads the library's own would not be seen: what watches
the operators of one thread makes it do all the work there.
"""

from __future__ import annotations

import argparse
from typing import Any

from measure import add_common_options, begin, print_table, write_json
from scoring import WORKS, Work, job
from torch.profiler import ProfilerActivity, profile

PRODUCTS = ("aten::mm", "aten::bmm", "aten::addmm", "aten::baddbmm")
KINDS = {
    "small products": PRODUCTS,  # those that are no products of regions and words
    "maxima": ("aten::amax", "aten::max", "aten::maximum", "aten::eq"),
    "exponentials": (
        *("aten::exp", "aten::exp2", "aten::exp2_", "aten::log"),
        *("aten::softmax", "aten::_softmax", "aten::_softmax_backward_data"),
    ),
    "element by element": (
        *("aten::mul", "aten::mul_", "aten::add", "aten::add_", "aten::sub", "aten::sub_", "aten::div", "aten::div_"),
        *("aten::leaky_relu", "aten::leaky_relu_backward", "aten::clamp", "aten::sqrt", "aten::rsqrt", "aten::where"),
        *("aten::pow", "aten::square", "aten::neg", "aten::masked_fill", "aten::masked_fill_", "aten::reciprocal"),
        *("aten::addcmul", "aten::threshold", "aten::sign", "aten::minimum"),
    ),
    "sums": ("aten::sum", "aten::mean", "aten::cumsum"),
    "copies": (
        *("aten::copy_", "aten::index", "aten::index_select", "aten::index_put_", "aten::_index_put_impl_"),
        *("aten::gather", "aten::cat", "aten::index_add_", "aten::fill_"),
    ),
}


def shares(work: Work, options: argparse.Namespace) -> dict[str, Any]:
    """Share of the time of each kind of operation in one call."""
    inputs, similarity = work.inputs(work.images, work.captions, options), work.build(options, options.device)
    run = job(inputs.scores_of(similarity), work, inputs, list(similarity.parameters()))
    run()
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if options.device == "cuda" else [])
    with profile(activities=activities, record_shapes=True) as found:
        run()
    times: dict[str, float] = dict.fromkeys(("product", *KINDS, "other"), 0.0)
    for event in found.key_averages(group_by_input_shape=True):
        spent = event.self_device_time_total if options.device == "cuda" else event.self_cpu_time_total
        kind = next((kind for kind, names in KINDS.items() if event.key in names), "other")
        # regions times words, over numbers of the embedding; what is left is between regions, or between words
        if event.key in PRODUCTS and any(options.dim in shape for shape in event.input_shapes):
            kind = "product"
        times[kind] += spent
    total = sum(times.values())
    return {"work": f"{work.label}, {work.mode}"} | {kind: value / total for kind, value in times.items()}


def main() -> None:
    """Profile the rows and print them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dim", type=int, default=1024, help="size of the fragments")
    parser.add_argument("--regions", type=int, default=36, help="regions an image")
    add_common_options(parser)
    parser.add_argument("--only", nargs="+", choices=list(WORKS), default=list(WORKS), help="only these rows")
    options = parser.parse_args()
    _, facts = begin(options)
    rows = [shares(WORKS[name], options) for name in options.only]
    columns = {kind: (lambda row, kind=kind: f"{100 * row[kind]:.0f} %") for kind in ("product", *KINDS, "other")}
    print_table({"work": lambda row: row["work"], **columns}, rows)
    write_json(options.json, facts, rows)


if __name__ == "__main__":
    main()
