import pytest
import torch

from itmatch.data import room
from itmatch.data.room import check_room, free_bytes

CPU = torch.device("cpu")


def test_what_does_not_fit_is_told_in_bytes(monkeypatch):
    monkeypatch.setattr(room, "free_bytes", lambda device, *, shared: 1000 if shared else 2000)
    check_room("x", (10, 10, 10), torch.float16, CPU)
    with pytest.raises(ValueError, match=r"x: 10 x 10 x 10 numbers of float32 need 4000 bytes \(4e-06 GB\), and 2000"):
        check_room("x", (10, 10, 10), torch.float32, CPU)
    with pytest.raises(ValueError, match=r"1000 \(1e-06 GB\) are free in /dev/shm, which processes that load share"):
        check_room("x", (10, 10, 10), torch.float16, CPU, shared=True)
    monkeypatch.setattr(room, "free_bytes", lambda device, *, shared: None)
    check_room("x", (10**9, 10**9), torch.float32, CPU)


def test_the_least_of_the_limits_counts(monkeypatch, tmp_path):
    monkeypatch.setattr(room, "_MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(room, "_GROUP", tmp_path)
    assert free_bytes(CPU) is None
    (tmp_path / "meminfo").write_text("MemTotal: 10 kB\nMemAvailable:    5 kB\nHugePages_Total:       0\n")
    assert free_bytes(CPU) == 5120
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("3000\n")
    (tmp_path / "memory.stat").write_text("anon 1000\nfile 500\n")
    assert free_bytes(CPU) == 5120
    (tmp_path / "memory.max").write_text("4000\n")
    assert free_bytes(CPU) == 1500
    assert free_bytes(torch.device("meta")) is None
