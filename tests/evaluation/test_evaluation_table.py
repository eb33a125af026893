import pytest
import torch

from itmatch.evaluation import RetrievalRanks, recall_table, results_table, retrieval_metrics


def figures(ks=(1, 5, 10)):
    return retrieval_metrics(RetrievalRanks(torch.tensor([0, 7]), torch.tensor([0, 0, 2, 0])), ks)


def test_cells_stand_under_their_headers():
    lines = recall_table(figures(), title="dev").splitlines()
    assert lines[0] == "dev"
    assert lines[1].split() == ["R@1", "R@5", "R@10", "medR", "meanR"]
    assert lines[2].split() == ["image", "to", "text", "50.0", "50.0", "100.0", "4.0", "4.5"]
    assert lines[3].split() == ["text", "to", "image", "75.0", "100.0", "100.0", "1.0", "1.5"]
    assert lines[4].split() == ["rSum", "475.0"]
    assert len({len(line) for line in lines[1:4]}) == 1


def test_other_ks_tensors_and_foreign_entries():
    metrics = {name: torch.tensor(value) for name, value in figures((1, 50)).items()}
    table = recall_table(metrics | {"loss": 3.0, "i2t_rank": 2.0})
    assert table.splitlines()[0].split() == ["R@1", "R@50", "medR", "meanR"]


def test_what_is_missing_is_a_dash():
    lines = recall_table({"i2t_r1": 10.0}).splitlines()
    assert lines[1].split() == ["image", "to", "text", "10.0", "-", "-"]
    assert lines[2].split() == ["text", "to", "image", "-", "-", "-"]
    assert len(lines) == 3


def test_large_figures_keep_the_columns():
    metrics = figures() | {"t2i_meanr": 1234567.8}
    lines = recall_table(metrics).splitlines()
    assert len({len(line) for line in lines[:3]}) == 1


def test_other_figures_and_signs_that_latex_and_markdown_know():
    names = ["eccv_i2t_map_at_r", "eccv_t2i_rprecision", "cxc_i2t_r5", "pmrp_t2i", "rsum_std", "not_there"]
    rows = {"a_b&c~^\\x|y": dict.fromkeys(names[:-1], 1.0)}
    heads = ["ECCV i2t mAP@R", "ECCV t2i R-Precision", "CxC i2t R@5", "PMRP t2i", "rSum std"]
    assert results_table(rows, "markdown", names).splitlines() == [
        f"|  | {' | '.join(heads)} |",
        "|" + "---|" * 6,
        r"| a_b&c~^\x\|y |" + " 1.0 |" * 5,
    ]
    lines = results_table(rows, "latex", names).splitlines()
    assert lines[2] == rf" & {' & '.join(heads)} \\"
    assert lines[4].startswith(r"a\_b\&c\textasciitilde{}\textasciicircum{}\textbackslash{}x|y & 1.0")


def test_no_recall():
    with pytest.raises(ValueError, match="loss"):
        recall_table({"loss": 1.0})
