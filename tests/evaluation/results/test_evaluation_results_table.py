import csv

import pytest
import torch

from itmatch.evaluation import (
    ResultGroup,
    ResultRow,
    RetrievalRanks,
    Spread,
    grouped_table,
    recall_table,
    results_table,
    retrieval_metrics,
)


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


RECALLED = {"i2t_r1": 80.04, "rsum": 500.0, "i2t_medr": 2.0, "rsum_std": 1.0}
ROWS = [
    ResultRow("A", RECALLED, key="a2020"),
    ResultRow("B", {"i2t_r1": 79.96, "rsum": 501.0, "i2t_medr": 1.0, "rsum_std": 2.0}),
    ResultRow("C & D", {"i2t_r1": Spread(70.0, 0.25, 3), "rsum": Spread(501.04, 2.0, 3)}, runs=3),
]
NAMES = ["i2t_r1", "rsum", "i2t_medr", "rsum_std"]
GROUPS = [ResultGroup("one_set", ROWS, NAMES), ResultGroup("other", ROWS[:1], NAMES)]


def test_prefixed_names_have_columns_and_heads():
    lines = results_table({"A": {"rsum": 1.0, "coco_1k_rsum": 2.0, "coco_1k_i2t_r1": 3.0}}, "markdown").splitlines()
    assert lines[0] == "|  | rSum | COCO 1K i2t R@1 | COCO 1K rSum |"
    assert lines[2] == "| A | 1.0 | 3.0 | 2.0 |"


def test_the_best_of_a_group_is_marked_and_so_is_what_looks_the_same():
    """A and B look the same in R@1; the standard deviation over folds has no best; one row alone has none."""
    assert grouped_table(GROUPS).splitlines() == [
        "          i2t R@1          rSum   i2t medR   rSum std",
        "-" * 53,
        "one_set",
        "A            80.0*        500.0        2.0        1.0",
        "B            80.0*        501.0*       1.0*       2.0",
        "C & D  70.0 ± 0.2   501.0 ± 2.0*         -          -",
        "-" * 53,
        "other",
        "A            80.0         500.0        2.0        1.0",
    ]
    assert "*" not in grouped_table(GROUPS, mark_best=False)


def test_markdown_in_groups():
    lines = grouped_table(GROUPS, "markdown").splitlines()
    assert lines[:3] == ["one_set", "", "|  | i2t R@1 | rSum | i2t medR | rSum std |"]
    assert lines[4:7] == [
        "| A | **80.0** | 500.0 | 2.0 | 1.0 |",
        "| B | **80.0** | **501.0** | **1.0** | 2.0 |",
        "| C & D | 70.0 ± 0.2 | **501.0 ± 2.0** | - | - |",
    ]
    assert lines[7:12] == ["", "---", "", "other", ""]


def test_latex_in_groups():
    lines = grouped_table(GROUPS, "latex").splitlines()
    assert lines[3:8] == [
        r"\midrule",
        r"\multicolumn{5}{l}{\textit{one\_set}} \\",
        r"A~\cite{a2020} & \textbf{80.0} & 500.0 & 2.0 & 1.0 \\",
        r"B & \textbf{80.0} & \textbf{501.0} & \textbf{1.0} & 2.0 \\",
        r"C \& D & 70.0 $\pm$ 0.2 & \textbf{501.0 $\pm$ 2.0} & - & - \\",
    ]
    assert lines.count(r"\midrule") == 2
    assert lines[-1] == r"\end{tabular}"


def test_csv_has_all_digits_and_a_column_for_deviations():
    rows = list(csv.DictReader(grouped_table(GROUPS, "csv").splitlines()))
    assert list(rows[0]) == ["group", "label", "runs", "key", "i2t_r1", "i2t_r1_sd", "rsum", "rsum_sd", *NAMES[2:]]
    assert [row["label"] for row in rows] == ["A", "B", "C & D", "A"]
    assert (rows[0]["key"], rows[0]["i2t_r1"], rows[0]["i2t_r1_sd"], rows[0]["runs"]) == ("a2020", "80.0400", "", "")
    assert (rows[2]["rsum"], rows[2]["rsum_sd"], rows[2]["runs"], rows[2]["i2t_medr"]) == (
        "501.0400",
        "2.0000",
        "3",
        "",
    )


def test_groups_that_show_other_figures_have_a_table_of_their_own():
    groups = [*GROUPS, ResultGroup("ranks", ROWS, ["i2t_medr"])]
    assert grouped_table(groups, "latex").count(r"\begin{tabular}") == 2
    assert grouped_table(groups).count("\n\n") == 1


def test_what_is_no_table():
    with pytest.raises(ValueError, match="form: 'html', expected 'text', 'markdown', 'latex' or 'csv'"):
        grouped_table(GROUPS, "html")
    with pytest.raises(ValueError, match="no groups"):
        grouped_table([])
    with pytest.raises(ValueError, match="no rows"):
        results_table({})
