import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from itmatch.ops import hard_alignment, lengths_to_mask, soft_alignment

QUERIES = ["words", "regions"]


def make(images=5, captions=4, regions=7, words=6, size=6, dtype=torch.double, seed=0, ragged=True):
    torch.manual_seed(seed)
    v = torch.randn(images, regions, size, dtype=dtype)
    t = torch.randn(captions, words, size, dtype=dtype)
    vm, tm = torch.rand(images, regions) > 0.4, torch.rand(captions, words) > 0.4
    vm[:, 2], tm[:, 1] = True, True
    if not ragged:
        vm[:], tm[:] = True, True
    return v.requires_grad_(), vm, t.requires_grad_(), tm


def naive_hard(v, vm, t, tm, query):
    out = torch.zeros(len(v), len(t), t.shape[1] if query == "words" else v.shape[1], dtype=v.dtype)
    for i in range(len(v)):
        for j in range(len(t)):
            scores = v[i, vm[i]] @ t[j, tm[j]].T
            if query == "words":
                out[i, j, tm[j]] = scores.max(0).values
            else:
                out[i, j, vm[i]] = scores.max(1).values
    return out


def naive_soft(v, vm, t, tm, query, temperature, normalize):
    out = torch.zeros(len(v), len(t), t.shape[1] if query == "words" else v.shape[1], dtype=v.dtype)
    for i in range(len(v)):
        for j in range(len(t)):
            keys, queries = (v[i, vm[i]], t[j, tm[j]]) if query == "words" else (t[j, tm[j]], v[i, vm[i]])
            attended = (queries @ keys.T / temperature).softmax(1) @ keys
            value = (attended * queries).sum(1)
            out[i, j, tm[j] if query == "words" else vm[i]] = value / attended.norm(dim=1) if normalize else value
    return out


def soft(*args, temperature=0.3, normalize=False, **kwargs):
    return soft_alignment(*args, temperature=temperature, normalize=normalize, **kwargs)


def soft_normalized(*args, **kwargs):
    return soft(*args, normalize=True, **kwargs)


NAIVE = {
    hard_alignment: naive_hard,
    soft: lambda *args: naive_soft(*args, 0.3, False),
    soft_normalized: lambda *args: naive_soft(*args, 0.3, True),
}


def gradients(out, *inputs):
    torch.manual_seed(9)
    return torch.autograd.grad((out * torch.randn(out.shape, dtype=out.dtype)).sum(), inputs)


@pytest.mark.parametrize("function", NAIVE)
@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("chunk_size", [None, 1, 2, 5, 100])
@pytest.mark.parametrize("ragged", [True, False])
def test_equals_loop_whatever_the_chunk(function, query, chunk_size, ragged):
    v, vm, t, tm = make(ragged=ragged)
    expected = NAIVE[function](v, vm, t, tm, query)
    result = function(v, vm, t, tm, query=query, chunk_size=chunk_size)
    torch.testing.assert_close(result, expected, atol=1e-12, rtol=1e-12)
    for ours, theirs in zip(gradients(result, v, t), gradients(expected, v, t), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(function(v, vm, t, tm, query=query, chunk_size=chunk_size), result)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("function", NAIVE)
@pytest.mark.parametrize("query", QUERIES)
def test_several_blocks_of_queries_and_of_entries(function, query, threads, monkeypatch):
    v, vm, t, tm = make()
    expected = function(v, vm, t, tm, query=query)
    expected_gradients = gradients(expected, v, t)
    monkeypatch.setattr("itmatch.ops.pairs.blocks._QUERY_COLUMNS", {"cpu": 3, "cuda": 3})
    monkeypatch.setattr("itmatch.ops.pairs.blocks._BLOCK_BYTES", {"cpu": 8 * 3 * 14, "cuda": 8 * 3 * 14})
    monkeypatch.setattr("itmatch.ops.threads._WORTH_THREADS", 0)
    torch.set_num_threads(threads)
    monkeypatch.setattr("itmatch.ops.pairs.winners._ENTRIES", 40)
    result = function(v, vm, t, tm, query=query)
    torch.testing.assert_close(result, expected, atol=1e-12, rtol=1e-12)
    for ours, theirs in zip(gradients(result, v, t), expected_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("function", NAIVE)
@pytest.mark.parametrize("query", QUERIES)
def test_gradcheck(function, query):
    v, vm, t, tm = make(images=3, captions=2, regions=4, words=3, size=5)
    assert torch.autograd.gradcheck(lambda a, b: function(a, vm, b, tm, query=query), (v, t))


@pytest.mark.parametrize("function", NAIVE)
@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("garbage", [torch.nan, torch.inf, 1e4])
def test_padded_places_do_not_matter(function, query, garbage):
    v, vm, t, tm = make()
    clean = function(v, vm, t, tm, query=query)
    clean_gradients = gradients(clean, v, t)
    with torch.no_grad():
        dirty_v, dirty_t = v.masked_fill(~vm[..., None], garbage), t.masked_fill(~tm[..., None], garbage)
        dirty_v = torch.cat((dirty_v, torch.full_like(dirty_v[:, :3], garbage)), 1)
        dirty_t = torch.cat((dirty_t, torch.full_like(dirty_t[:, :2], garbage)), 1)
        wide_vm, wide_tm = (torch.nn.functional.pad(m, (0, n)) for m, n in ((vm, 3), (tm, 2)))
    dirty_v.requires_grad_()
    dirty_t.requires_grad_()
    dirty = function(dirty_v, wide_vm, dirty_t, wide_tm, query=query)
    width = clean.shape[2]
    assert (dirty[:, :, width:] == 0).all()
    torch.testing.assert_close(dirty[:, :, :width], clean, atol=1e-12, rtol=1e-12)
    torch.manual_seed(9)
    weights = torch.randn(clean.shape, dtype=clean.dtype)
    ours = torch.autograd.grad((dirty[:, :, :width] * weights).sum(), (dirty_v, dirty_t))
    for got, expected in zip(ours, clean_gradients, strict=True):
        torch.testing.assert_close(got[:, : expected.shape[1]], expected, atol=1e-12, rtol=1e-12)
        assert (got[:, expected.shape[1] :] == 0).all()


@pytest.mark.parametrize("function", NAIVE)
@pytest.mark.parametrize("query", QUERIES)
def test_permuting_images_and_captions_permutes_the_result(function, query):
    v, vm, t, tm = make()
    rows, columns = torch.randperm(len(v)), torch.randperm(len(t))
    permuted = function(v[rows], vm[rows], t[columns], tm[columns], query=query)
    expected = function(v, vm, t, tm, query=query)
    torch.testing.assert_close(permuted, expected[rows][:, columns], atol=1e-12, rtol=1e-12)
    for a, b in zip(gradients(permuted.sum(2), v, t), gradients(expected.sum(2)[rows][:, columns], v, t), strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("query", QUERIES)
def test_all_scores_negative_still_beats_padding(query):
    v, t = torch.full((1, 3, 2), 1.0), torch.full((1, 3, 2), -1.0)
    mask = torch.tensor([[True, False, True]])
    assert hard_alignment(v, mask, t, mask, query=query)[0, 0].tolist() == [-2.0, 0.0, -2.0]


@pytest.mark.parametrize("query", QUERIES)
def test_a_tie_has_one_winner(query):
    v = torch.ones(2, 3, 2, dtype=torch.double, requires_grad=True)
    t = torch.ones(2, 4, 2, dtype=torch.double, requires_grad=True)
    vm, tm = lengths_to_mask(torch.tensor([3, 2])), lengths_to_mask(torch.tensor([4, 2]))
    hard_alignment(v, vm, t, tm, query=query).sum().backward()
    keys, queries = (v, tm) if query == "words" else (t, vm)
    assert (keys.grad[:, 0] == queries.sum()).all()  # the first of the equal ones gets everything
    assert (keys.grad[:, 1:] == 0).all()


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("longest", [256, 300])
def test_rows_longer_than_a_byte_can_count(query, longest):
    torch.manual_seed(0)
    v, t = torch.randn(2, longest, 3, dtype=torch.double), torch.randn(3, longest, 3, dtype=torch.double)
    vm, tm = lengths_to_mask(torch.tensor([longest, 258 % longest])), lengths_to_mask(torch.tensor([1, longest, 255]))
    v.requires_grad_()
    t.requires_grad_()
    result, expected = hard_alignment(v, vm, t, tm, query=query), naive_hard(v, vm, t, tm, query)
    torch.testing.assert_close(result, expected)
    for a, b in zip(gradients(result, v, t), gradients(expected, v, t), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("query", QUERIES)
def test_only_the_side_that_wants_a_gradient_gets_one(query):
    v, vm, t, tm = make()
    for frozen in (0, 1):
        inputs = [v.detach(), t.detach()]
        inputs[1 - frozen].requires_grad_()
        result = hard_alignment(inputs[0], vm, inputs[1], tm, query=query)
        result.sum().backward()
        expected = torch.autograd.grad(naive_hard(v, vm, t, tm, query).sum(), (v, t))[1 - frozen]
        torch.testing.assert_close(inputs[1 - frozen].grad, expected)
        assert inputs[frozen].grad is None


@pytest.mark.parametrize("query", QUERIES)
def test_soft_tends_to_hard(query):
    v, vm, t, tm = make()
    hard = hard_alignment(v, vm, t, tm, query=query)
    distances = [
        (soft_alignment(v, vm, t, tm, temperature=x, query=query) - hard).abs().max().item() for x in (1, 0.1, 1e-4)
    ]
    assert distances[0] > distances[1] > distances[2]
    assert distances[2] < 1e-6


@pytest.mark.parametrize("function", NAIVE)
@pytest.mark.parametrize("query", QUERIES)
def test_one_image_one_caption_one_fragment(function, query):
    v, t = torch.randn(1, 1, 4, requires_grad=True), torch.randn(1, 1, 4, requires_grad=True)
    mask = torch.ones(1, 1, dtype=torch.bool)
    result = function(v, mask, t, mask, query=query)
    expected = (v * t).sum() / (v.norm() if query == "words" else t.norm()) ** (function is soft_normalized)
    torch.testing.assert_close(result, expected.view(1, 1, 1))
    result.sum().backward()
    assert v.grad.abs().sum() > 0


@pytest.mark.parametrize("function", NAIVE)
@pytest.mark.parametrize("query", QUERIES)
def test_no_images_or_no_captions(function, query):
    v, vm, t, tm = make()
    width = 6 if query == "words" else 7
    assert function(v[:0], vm[:0], t, tm, query=query).shape == (0, 4, width)
    assert function(v, vm, t[:0], tm[:0], query=query).shape == (5, 0, width)
    hard_alignment(v[:0], vm[:0], t, tm, query=query).sum().backward()
    assert (t.grad == 0).all()


def test_a_gradient_of_zeros():
    v, vm, t, tm = make()
    (hard_alignment(v, vm, t, tm) * 0).sum().backward()
    assert (v.grad == 0).all()
    assert (t.grad == 0).all()


class LargestTensor(TorchDispatchMode):
    """Remembers the most elements that any operation returned."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for out in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(out, torch.Tensor):
                self.elements = max(self.elements, out.numel())
        return result


@pytest.mark.parametrize("function", NAIVE)
@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("train", [True, False])
def test_never_holds_all_scores(function, query, train):
    v, vm, t, tm = make(images=24, captions=40, regions=20, words=30, size=4, dtype=torch.float, ragged=False)
    v, t = (x.detach().requires_grad_(train) for x in (v, t))
    with LargestTensor() as seen:
        result = function(v, vm, t, tm, query=query, chunk_size=2)
        if train:
            result.sum().backward()
    assert 24 * 40 * 20 * 30 / 5 > seen.elements >= result.numel()


@pytest.mark.parametrize("function", [hard_alignment, soft])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_on_the_cpu_is_computed_in_float32(function, dtype):
    v, vm, t, tm = make(dtype=torch.float)
    v, t = v.detach().to(dtype).requires_grad_(), t.detach().to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = function(v, vm, t, tm)
    torch.testing.assert_close(result, function(v.float(), vm, t.float(), tm))
    result.sum().backward()
    assert v.grad.dtype == dtype


@pytest.mark.parametrize("function", NAIVE)
@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("train", [True, False])
def test_the_product_may_be_half_under_autocast_but_the_result_is_float32(function, query, train, monkeypatch):
    v, vm, t, tm = make(dtype=torch.float)
    v, t = v.detach().bfloat16().requires_grad_(train), t.detach().requires_grad_(train)
    expected = function(v, vm, t.bfloat16(), tm, query=query)
    monkeypatch.setattr("itmatch.ops.pairs.sides._autocast_chooses", torch.is_autocast_enabled)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = function(v, vm, t, tm, query=query)
        assert function(v[:0], vm[:0], t, tm, query=query).dtype == torch.float
    torch.testing.assert_close(result, expected, atol=0.05, rtol=0.02)  # float32 both; the products are rounded
    if train:
        for ours, theirs in zip(gradients(result, v, t), gradients(expected, v, t), strict=True):
            torch.testing.assert_close(ours, theirs, atol=0.1, rtol=0.1)


@pytest.mark.parametrize("function", NAIVE)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_outside_autocast_the_product_is_float32_everywhere(function, dtype, monkeypatch):
    v, vm, t, tm = make(dtype=torch.float)
    v, t = v.detach().to(dtype).requires_grad_(), t.detach().to(dtype).requires_grad_()
    expected = function(v.float(), vm, t.float(), tm)
    monkeypatch.setattr("itmatch.ops.pairs.sides._autocast_chooses", torch.is_autocast_enabled)
    result = function(v, vm, t, tm)
    torch.testing.assert_close(result, expected)
    result.sum().backward()
    assert v.grad.dtype == t.grad.dtype == dtype


@pytest.mark.parametrize("function", [hard_alignment, soft])
def test_results_of_half_inputs_are_float32_even_without_captions(function):
    v, vm, t, tm = make(dtype=torch.bfloat16)
    assert function(v, vm, t[:0], tm[:0]).dtype == torch.float


def test_bad_arguments_are_named():
    v, vm, t, tm = make()
    with pytest.raises(ValueError, match="embedding sizes differ: image 5, text 6"):
        hard_alignment(v[..., :5], vm, t, tm)
    with pytest.raises(ValueError, match="'both'"):
        hard_alignment(v, vm, t, tm, query="both")
    with pytest.raises(ValueError, match="chunk_size: 0"):
        hard_alignment(v, vm, t, tm, chunk_size=0)
    with pytest.raises(ValueError, match="text: features"):
        hard_alignment(v, vm, t, tm.float())
    with pytest.raises(ValueError, match="image: row 1 has no valid"):
        hard_alignment(v, vm & (torch.arange(5) != 1)[:, None], t, tm)
    with pytest.raises(ValueError, match="temperature"):
        soft_alignment(v, vm, t, tm, temperature=0.0)


@pytest.mark.parametrize("query", QUERIES)
def test_a_compiled_graph_holds_hard_alignment_whole(query):
    v, vm, t, tm = make(dtype=torch.float32)

    def scores(image, text):
        return hard_alignment(2 * image, vm, text, tm, query=query).sum(2)

    torch._dynamo.reset()
    compiled = torch.compile(scores, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(v, t), scores(v, t), rtol=0, atol=0)
    expected, found = gradients(scores(v, t), v, t), gradients(compiled(v, t), v, t)
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("query", QUERIES)
def test_the_operator_of_hard_alignment_is_sound(query):
    torch.library.opcheck(torch.ops.itmatch.hard_alignment.default, (*make(dtype=torch.float32), query, None))


def test_second_derivatives_are_refused():
    """torch.autograd.grad would go past them and give the rest."""
    v, vm, t, tm = make(dtype=torch.float32)
    weight = torch.eye(v.shape[2], requires_grad=True)
    for scores in (hard_alignment(v @ weight, vm, t, tm), soft_alignment(v @ weight, vm, t, tm, temperature=0.1)):
        with pytest.raises(RuntimeError, match="second derivatives"):
            torch.autograd.grad(scores.square().sum(), weight, create_graph=True)
