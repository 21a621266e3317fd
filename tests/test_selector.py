"""The T-Selector: what it keeps, in which order, and that a language-model loss can teach it."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from elysium.errors import ModelError
from elysium.model import ElysiumForConditionalGeneration
from elysium.model.configuration import SelectorConfig
from elysium.model.gates import LegacyGate, PromptContext
from elysium.model.positions import box_coverage, code_1d, code_2d, grid_centres
from elysium.model.prompt_gate import PromptGate, consensus
from elysium.model.selector import GATES, TSelector, cells, pool_cells
from tiny import tiny_config, tiny_model_and_processor

N, C = 16, 8


def selector(gate: str = "mlp", **options: object) -> TSelector:
    torch.manual_seed(0)
    return TSelector(SelectorConfig(gate=gate, num_tokens=5, hidden_size=8, **options), C, N, 6).eval()


def test_keeps_the_largest_logits_unscaled_and_in_raster_order():
    module, tokens = selector(), torch.randn(3, N, C)
    chosen = module(tokens)
    expected = chosen.logits.topk(5, dim=1).indices.sort(dim=1).values
    assert torch.equal(chosen.indices, expected)
    assert torch.equal(chosen.tokens, torch.stack([t[i] for t, i in zip(tokens, expected, strict=True)]))


def test_equal_logits_keep_the_earlier_places():
    module = selector()
    for parameter in module.gate.parameters():
        torch.nn.init.zeros_(parameter)
    assert module(torch.randn(2, N, C)).indices.tolist() == [[0, 1, 2, 3, 4]] * 2


@pytest.mark.parametrize("k", [1, 7, N])
def test_k_can_change_per_call(k):
    assert selector()(torch.randn(2, N, C), k).tokens.shape == (2, k, C)


@pytest.mark.parametrize("k", [0, N + 1])
def test_impossible_k_names_both_numbers(k):
    with pytest.raises(ModelError, match=f"Cannot keep {k} of {N}"):
        selector()(torch.randn(2, N, C), k)


def test_straight_through_keeps_values_and_gives_gradients():
    module = selector(noise=0.0).train()
    tokens = torch.randn(2, N, C)
    chosen = module(tokens)
    plain = torch.stack([t[i] for t, i in zip(tokens, chosen.indices, strict=True)])
    assert torch.allclose(chosen.tokens, plain, atol=1e-6)
    (chosen.tokens * torch.randn(2, 5, C)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.gate.mlp[0].parameters())


def test_straight_through_scales_notes_as_it_scales_tokens():
    """The derivative by a token's logit is that of scaling all that is known of it, features and note alike."""
    module = selector(noise=0.0, annotate=True).train()
    chosen = module(torch.randn(1, N, C), N)
    by_tokens, by_notes = torch.randn(N, C), torch.randn(N, module.note_size)
    gain = (chosen.tokens[0] * by_tokens).sum(1) + (chosen.notes[0] * by_notes).sum(1)
    chosen.logits.retain_grad()
    gain.sum().backward()
    share, value = chosen.logits[0].softmax(dim=0).detach(), gain.detach()
    expected = N * share * (value - (share * value).sum())
    assert torch.allclose(chosen.logits.grad[0], expected, rtol=1e-3, atol=1e-4)


def test_noise_explores_in_training_only():
    module, tokens = selector(noise=5.0), torch.randn(1, N, C)
    assert torch.equal(module(tokens).indices, module(tokens).indices)
    module.train()
    assert len({tuple(module(tokens).indices[0].tolist()) for _ in range(20)}) > 1


def test_language_model_loss_reaches_the_gate():
    model, processor = tiny_model_and_processor("mlp")
    model.train()
    frame = torch.randint(0, 255, (40, 50, 3), dtype=torch.uint8).numpy()
    batch = processor("USER: <image>\nwhere is the red car?ASSISTANT: left", images=[frame])
    model(**batch, labels=batch["input_ids"].clamp_max(599)).loss.backward()
    gradients = [p.grad.abs().max().item() for p in model.selector.gate.mlp.parameters()]
    # The last bias shifts all logits alike, which no choice can notice; the others must all learn.
    assert min(gradients[:3]) > 0


def test_legacy_gate_is_the_published_formula():
    gate, tokens = LegacyGate(SelectorConfig(), C, N, 0).requires_grad_(False), torch.randn(2, N, C)
    torch.nn.init.normal_(gate.trans_weight)
    torch.nn.init.normal_(gate.trans_bias)
    by_hand = torch.stack([
        torch.tensor([
            sum((t[i] @ gate.pre_proj.weight[0] + gate.pre_proj.bias[0]) * gate.trans_weight[i, j] for i in range(N))
            + gate.trans_bias[j] for j in range(N)
        ]) for t in tokens
    ])  # fmt: skip
    assert torch.allclose(gate(tokens, None).logits, by_hand, atol=1e-4)


def test_uniform_choice_is_spread_evenly():
    kept = selector("uniform")(torch.randn(1, N, C), 4).indices[0]
    assert kept.tolist() == [0, 4, 8, 12]


def test_average_pooling_by_hand():
    """Four cells of a 4 x 4 raster of 0..15: the means of its quarters, whose middles are between tokens."""
    chosen = selector("average")(torch.arange(16.0).view(1, N, 1).expand(1, N, C), 4)
    assert chosen.tokens[0, :, 0].tolist() == [2.5, 4.5, 10.5, 12.5]
    assert chosen.indices.tolist() == [[0, 2, 8, 10]]
    middles = pool_cells(torch.zeros(1, N, 1), 4, 4)[2]
    assert middles[0].tolist() == [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]


def test_average_pooling_into_a_number_of_cells_that_is_no_square():
    by_hand = [[0, 0, 1, 1], [0, 0, 1, 1], [2, 3, 3, 4], [2, 3, 3, 4]]
    assert cells(5, 4).view(4, 4).tolist() == by_hand
    means, indices, middles = pool_cells(torch.arange(16.0).view(1, N, 1), 5, 4)
    assert means.flatten().tolist() == [2.5, 4.5, 10.0, 11.5, 13.0]
    assert indices.tolist() == [[0, 2, 8, 9, 11]]
    assert middles[0, 3].tolist() == [0.5, 0.75]


@pytest.mark.parametrize("grid", [1, 4, 7, 14])
def test_average_pooling_takes_any_number_of_cells(grid):
    for k in range(1, grid * grid + 1):
        cell, indices = cells(k, grid), pool_cells(torch.zeros(1, grid * grid, 1), k, grid)[1][0]
        assert sorted(set(cell.tolist())) == list(range(k))
        assert cell[indices].tolist() == list(range(k)) and (indices[1:] > indices[:-1]).all()


def test_average_pooling_into_as_many_cells_as_tokens_changes_nothing():
    module, tokens = selector("average"), torch.randn(2, N, C)
    chosen = module(tokens, N)
    assert torch.equal(chosen.tokens, tokens) and chosen.indices.tolist() == [list(range(N))] * 2


def test_average_pooling_passes_gradients_to_every_token():
    tokens = torch.randn(2, N, C, requires_grad=True)
    selector("average").train()(tokens, 4).tokens.sum().backward()
    assert torch.allclose(tokens.grad, torch.full((2, N, C), 0.25))


def test_average_pooling_notes_the_middle_of_each_cell():
    notes = selector("average", annotate=True)(torch.randn(1, N, C), 4).notes
    kept = selector("uniform", annotate=True)(torch.randn(1, N, C), N).notes
    assert torch.allclose(notes[0, :, :64], code_1d(torch.tensor([0.25, 0.75, 0.25, 0.75]), 64))
    assert torch.allclose(kept[0, :, :64], code_1d(grid_centres(4)[:, 0], 64))


def test_what_each_gate_looks_at():
    sights = {gate: set(selector(gate).looks_at) for gate in GATES}
    expected = {"mlp": {"frame"}, "legacy": {"frame"}, "fixed": set(), "uniform": set(), "average": set(),
                "prompt": {"clip", "prompt"}}  # fmt: skip
    assert sights == expected


def test_position_code_tells_where_a_kept_token_was():
    """The grid position of a kept token can be read off it: nearest code among the sixteen."""
    channels = 64
    torch.manual_seed(1)
    module = TSelector(SelectorConfig(num_tokens=5, position_embedding=True), channels, N, 6).eval()
    chosen = module(torch.randn(4, N, channels) * 0.1)
    codes = code_2d(4, channels)
    nearest = torch.cdist(chosen.tokens, codes.expand(4, -1, -1)).argmin(dim=-1)
    assert torch.equal(nearest, chosen.indices)


def test_prompt_gate_follows_a_moved_pattern():
    """Tokens of frame 2 that look like the region of frame 1 score highest, and vote for the moved box."""
    torch.manual_seed(0)
    gate = PromptGate(SelectorConfig(hidden_size=32), 32, N, 6)
    torch.nn.init.eye_(gate.match.weight)
    torch.nn.init.zeros_(gate.match_seen.weight)
    torch.nn.init.zeros_(gate.reach[-1].weight)  # every token thinks its thing reaches as far
    with torch.no_grad():
        gate.match_scale.fill_(4.0)
    frame_1 = torch.nn.functional.normalize(torch.randn(4, 4, 32), dim=-1)
    frame_2 = torch.roll(frame_1, shifts=(1, 1), dims=(0, 1))  # one cell down and right
    tokens = torch.stack([frame_1.flatten(0, 1), frame_2.flatten(0, 1)])
    box = torch.tensor([[0.25, 0.25, 0.5, 0.5]])  # exactly the cell (1, 1)
    context = PromptContext(torch.tensor([0, 0]), region_boxes=box, region_frames=torch.tensor([0]))
    result = gate(tokens, context)
    assert result.logits.argmax(dim=1).tolist() == [5, 10]
    assert torch.allclose(result.votes[1, 10], torch.tensor([0.5, 0.5, 0.75, 0.75]), atol=1e-3)
    assert torch.allclose(result.box[1], torch.tensor([0.5, 0.5, 0.75, 0.75]), atol=1e-3)
    assert result.mark[0, 5] == 1 and result.mark[1].sum() == 0


def test_votes_are_corrected_by_the_errors_they_make_where_the_box_is_known():
    """The thing grows from one cell to two by two; its tokens say so, all of them wrong by the same amount."""
    torch.manual_seed(0)
    gate = PromptGate(SelectorConfig(hidden_size=32), 32, N, 6)
    torch.nn.init.eye_(gate.match.weight)
    torch.nn.init.zeros_(gate.match_seen.weight)
    with torch.no_grad():
        gate.match_scale.fill_(4.0)
    frame = torch.nn.functional.normalize(torch.randn(N, 32), dim=-1)
    later = torch.nn.functional.normalize(torch.randn(N, 32), dim=-1)
    later[[5, 6, 9, 10]] = frame[5]
    small, large = torch.tensor([0.25, 0.25, 0.5, 0.5]), torch.tensor([0.25, 0.25, 0.75, 0.75])
    told = torch.stack([small, large]).unsqueeze(1).expand(2, N, 4) + torch.tensor([0.05, -0.02, 0.03, 0.01])
    gate.votes = lambda seen: told
    context = PromptContext(torch.tensor([0, 0]), region_boxes=small[None], region_frames=torch.tensor([0]))
    result = gate(torch.stack([frame, later]), context)
    assert torch.allclose(result.box, torch.stack([small, large]), atol=1e-3)


def test_consensus_does_not_fall_between_two_things():
    here, there = torch.tensor([0.1, 0.1, 0.3, 0.3]), torch.tensor([0.7, 0.7, 0.9, 0.9])
    votes = torch.stack([here, here + 0.01, here - 0.01, there, there]).unsqueeze(0)
    assert torch.allclose(consensus(torch.zeros(1, 5), votes)[0], here, atol=1e-6)
    weighed = consensus(torch.tensor([[0.0, 0.0, 0.0, 2.0, 2.0]]), votes)
    assert torch.allclose(weighed[0], there, atol=1e-6)


def test_consensus_of_boxes_without_area_is_one_of_them():
    thin = torch.tensor([[[0.2, 0.3, 0.2, 0.6], [0.5, 0.5, 0.5, 0.7]]])
    assert torch.allclose(consensus(torch.tensor([[1.0, 0.0]]), thin)[0], thin[0, 0])


def test_prompt_gate_scores_a_request_alike_alone_and_beside_others():
    torch.manual_seed(0)
    gate, tokens = PromptGate(SelectorConfig(hidden_size=8), C, N, 6), torch.randn(5, N, C)
    rows = torch.tensor([0, 0, 1, 1, 2])  # a region, words, neither
    context = PromptContext(
        rows,
        region_boxes=torch.tensor([[0.1, 0.1, 0.6, 0.7]]),
        region_frames=torch.tensor([0]),
        words=torch.randn(3, 4, 6),
        words_mask=torch.tensor([[False] * 4, [True, True, False, False], [False] * 4]),
    )
    together = gate(tokens, context).logits
    region = PromptContext(rows[:2], region_boxes=context.region_boxes, region_frames=context.region_frames)
    words = PromptContext(
        torch.tensor([0, 0]), words=context.words[1:2, :2], words_mask=torch.ones(1, 2, dtype=torch.bool)
    )
    assert torch.allclose(together[:2], gate(tokens[:2], region).logits, atol=1e-5)
    assert torch.allclose(together[2:4], gate(tokens[2:4], words).logits, atol=1e-5)
    assert torch.allclose(together[4:], gate(tokens[4:], PromptContext(torch.tensor([0]))).logits, atol=1e-5)


@pytest.mark.parametrize("learns", [True, False], ids=["learning", "in use"])
@pytest.mark.parametrize("gate", ["mlp", "legacy", "fixed", "uniform", "average", "prompt"])
def test_shared_frames_are_chosen_from_as_if_each_request_had_its_own(gate, learns):
    module, tokens = selector(gate), torch.randn(3, N, C)
    asked = {
        "frame_rows": torch.tensor([0, 0, 1, 1, 2]), "region_boxes": torch.tensor([[0.1, 0.1, 0.6, 0.7]]),
        "region_frames": torch.tensor([0]), "words": torch.randn(3, 4, 6),
        "words_mask": torch.tensor([[False] * 4, [True] * 4, [False, True, True, False]]),
    }  # fmt: skip
    ids = torch.tensor([0, 1, 0, 1, 2])
    with torch.set_grad_enabled(learns):
        shared = module(tokens, context=PromptContext(frame_ids=ids, **asked))
        own = module(tokens[ids], context=PromptContext(**asked))
    assert torch.equal(shared.indices, own.indices) and torch.equal(shared.tokens, own.tokens)
    assert torch.allclose(shared.logits, own.logits, atol=1e-6)


def test_frame_numbers_count_within_each_request():
    assert PromptContext(torch.tensor([0, 0, 0, 1, 2, 2])).frame_numbers.tolist() == [1, 2, 3, 1, 1, 2]


def test_box_coverage_by_hand():
    coverage = box_coverage(torch.tensor([[0.0, 0.0, 0.75, 0.5]]), 2)
    assert coverage.tolist() == [[1.0, 0.5, 0.0, 0.0]]


def test_codes():
    assert torch.allclose(grid_centres(2), torch.tensor([[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]))
    assert torch.allclose(code_1d(torch.tensor([0.0]), 4), torch.tensor([[0.0, 0.0, 1.0, 1.0]]))
    norms = code_1d(torch.rand(7), 10).norm(dim=-1)
    assert torch.allclose(norms, torch.full((7,), 5**0.5))


def test_unknown_gate_is_refused():
    with pytest.raises(ModelError, match="Unknown selector gate 'magic'"):
        SelectorConfig(gate="magic")  # type: ignore[arg-type]
    assert tiny_config("mlp").selector_config.gate == "mlp"


def test_voted_box_is_carried_side_by_side_and_only_where_something_was_asked():
    torch.manual_seed(0)
    module = TSelector(SelectorConfig(gate="prompt", num_tokens=6, hidden_size=8, annotate=True), C, N, 6).eval()
    rows = torch.tensor([0, 0, 1])
    box = torch.tensor([[0.25, 0.25, 0.75, 1.0]])
    context = PromptContext(rows, region_boxes=box, region_frames=torch.tensor([0]))
    chosen = module(torch.randn(3, N, C), context=context)
    assert chosen.notes.shape == (3, 6, module.note_size)
    assert torch.equal(chosen.numbers[1], chosen.box[1][[0, 1, 2, 3, 0, 1]])
    assert chosen.numbers[2].isnan().all() and not chosen.numbers[:2].isnan().any()
    assert torch.allclose(chosen.box, consensus(chosen.logits, chosen.votes), atol=1e-6)


def test_voted_numbers_look_like_the_tokens_of_the_answer():
    model, _ = tiny_model_and_processor("prompt")
    model.config.number_token_ids = list(range(5, 106))
    table = model.get_input_embeddings().weight
    embedded = model._embed_numbers(torch.tensor([[0.37, float("nan")]]))
    around = torch.exp(-0.5 * (torch.arange(101) - 37.0) ** 2)
    assert torch.allclose(embedded[0, 0], (around / around.sum()) @ table[5:106], atol=1e-6)
    assert embedded[0, 1].abs().sum() == 0


@pytest.mark.parametrize("own", [False, True])
def test_words_have_embeddings_of_their_own_if_the_configuration_says_so(own):
    config = tiny_config("prompt")
    config.query_embeddings = own
    torch.manual_seed(0)
    model = ElysiumForConditionalGeneration(config).eval()
    ids = torch.tensor([[config.image_token_id] * 5 + [7, 8]])
    asked = {"pixel_values": torch.randn(1, 3, 64, 64), "query_ids": torch.tensor([[9, 10, 11]])}
    before = model(ids, only_select=True, **asked)
    assert before.logits is None and before.selector_logits.shape == (1, 16)
    with torch.no_grad():
        model.get_input_embeddings().weight[9] += 1.0
    after = model(ids, only_select=True, **asked)
    assert torch.equal(before.selector_logits, after.selector_logits) == own


@pytest.mark.slow
def test_the_benchmark_runs_from_end_to_end(tmp_path):
    """A rehearsal of two steps a model: every stage, every file; its figures mean nothing."""
    root = Path(__file__).parents[1]
    command = [sys.executable, "benchmarks/selector.py", "--fast", "--methods", "average", "learned"]
    done = subprocess.run([*command, "--runs", str(tmp_path)], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "| REC, pictures with IoU > 0.5 | k = 12 | k = 196 |" in done.stdout
    assert (tmp_path / "learned-0" / "scores.json").exists()
