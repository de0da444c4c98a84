"""The loop of generation, against models whose right answer is known."""

import pytest
import torch

from glassformer.errors import ConfigError, GenerationError
from glassformer.inference.engine import Engine
from glassformer.inference.generate import generate
from glassformer.inference.logits import Sampling, derived_seed
from glassformer.inference.padding import left_padded
from glassformer.models.gpt2 import GPT2, GPT2Config
from glassformer.models.llama import Llama, LlamaConfig
from glassformer.models.spec import State
from glassformer.nn.kv_cache import full, sinks

GREEDY = Sampling(temperature=0.0)


@pytest.fixture
def llama() -> Llama:
    sizes = {"vocab_size": 40, "context_length": 24, "d_model": 32, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2}
    model = Llama(LlamaConfig(**sizes, d_ff=48)).eval()
    return scaled(model)


@pytest.fixture
def gpt2() -> GPT2:
    return scaled(GPT2(GPT2Config(vocab_size=40, context_length=24, d_model=32, n_layers=2, n_heads=4)).eval())


def scaled(model):
    """With weights so large, and in float64, that its greedy choices are not a tie."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(8)
    return model.double()


def continuation(model, prompt: list[int], n: int, **settings) -> list[int]:
    settings = {"sampling": GREEDY, **settings}
    return [new.token for new in generate(model, [prompt], max_new_tokens=n, **settings)]


def greedy_without_cache(model, prompt: list[int], n: int) -> list[int]:
    tokens = list(prompt)
    with torch.no_grad():
        for _ in range(n):
            tokens.append(int(model(torch.tensor([tokens]))[0, -1].argmax()))
    return tokens[len(prompt) :]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_greedy_generation_equals_the_argmax_of_uncached_passes(family, request):
    model = request.getfixturevalue(family)
    assert continuation(model, [3, 1, 4], 15) == greedy_without_cache(model, [3, 1, 4], 15)


def test_a_sequence_does_not_depend_on_its_neighbours(llama):
    prompts = [[3, 1, 4, 1, 5], [9], [2, 6]]
    sampling = Sampling(temperature=1.0, seed=5, repetition_penalty=1.2)
    together: list[list[int]] = [[], [], []]
    for new in generate(llama, prompts, max_new_tokens=12, sampling=sampling):
        together[new.sequence].append(new.token)
    for i, prompt in enumerate(prompts):
        alone = Sampling(temperature=1.0, seed=derived_seed(5, i), repetition_penalty=1.2)
        assert together[i] == continuation(llama, prompt, 12, sampling=alone)


def test_the_same_seed_gives_the_same_text_and_another_seed_another(llama):
    first = continuation(llama, [1], 16, sampling=Sampling(seed=1))
    assert first == continuation(llama, [1], 16, sampling=Sampling(seed=1))
    assert first != continuation(llama, [1], 16, sampling=Sampling(seed=2))


def test_the_texts_of_neighbouring_seeds_are_drawn_independently(llama):
    n_seeds, n_rows, hot = 16, 64, 30.0
    counts = torch.zeros(40)
    for seed in range(n_seeds):
        sampling = Sampling(temperature=hot, seed=seed)
        for new in generate(llama, [[1]] * n_rows, max_new_tokens=1, sampling=sampling):
            counts[new.token] += 1
    with torch.no_grad():
        expected = n_seeds * n_rows * (llama(torch.tensor([[1]]))[0, -1] / hot).softmax(-1)
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert expected.min() > 5
    assert 18 < chi_square < 69, "39 degrees of freedom: in 1 of 500 it is outside"


def test_a_full_cache_ends_with_the_context_and_says_so(llama):
    new = list(generate(llama, [[1] * 20], max_new_tokens=100, sampling=GREEDY))
    assert len(new) == 5, "four more are read, the fifth only predicted"
    assert [token.finish for token in new] == [None] * 4 + ["context"]


@pytest.mark.parametrize("cache", ["window:8", "sinks:2+6"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_bounded_cache_goes_on_beyond_the_context(cache, family, request):
    model = request.getfixturevalue(family)
    new = list(generate(model, [[1, 2]], max_new_tokens=60, sampling=GREEDY, cache=cache))
    assert [token.finish for token in new[-2:]] == [None, "length"]


def test_a_prompt_longer_than_a_bounded_cache_is_read_token_by_token(llama):
    prompt = torch.randint(40, (1, 30))
    logits = Engine(llama, sinks(2, 6)).remember(prompt[0].tolist())
    state = llama.begin(None, sinks(2, 6))
    with torch.no_grad():
        expected = torch.cat([llama(prompt[:, t : t + 1], state) for t in range(30)], 1)
    torch.testing.assert_close(logits, expected)


def test_a_stop_token_ends_its_sequence_alone(llama):
    free = continuation(llama, [3, 1, 4], 10)
    stop = frozenset({free[3]})
    stopped = list(generate(llama, [[3, 1, 4], [9, 9, 9]], max_new_tokens=10, sampling=GREEDY, stop_tokens=stop))
    mine = [new for new in stopped if new.sequence == 0]
    assert [new.token for new in mine] == free[: free.index(free[3]) + 1]
    assert mine[-1].finish == "stop"


class CountsDown:
    """A model that continues each token with the one below it, and counts how many it may still read."""

    class Left:
        def __init__(self, room: int) -> None:
            self.room = room

        @property
        def rooms(self) -> list[int]:
            return [self.room]

        def select(self, rows):
            raise AssertionError("one text has no rows to select")

        branch = join = select

    config = GPT2Config(vocab_size=9, context_length=5, d_model=2, n_layers=1, n_heads=1)

    def parameters(self):
        return iter([torch.zeros(1)])

    def begin(self, source, policy):
        return self.Left(policy.capacity)

    def __call__(self, tokens, state=None, valid=None):
        state.room -= tokens.shape[-1]
        return torch.nn.functional.one_hot((tokens - 1) % 9, 9).double()


def test_generation_asks_of_a_state_nothing_but_its_room():
    assert isinstance(CountsDown.Left(1), State)
    assert continuation(CountsDown(), [7, 8], 9) == [7, 6, 5, 4]
    assert not isinstance(object(), State)


def test_prompts_of_different_lengths_end_in_the_same_column():
    tokens, valid = left_padded([[1, 2, 3], [4]])
    assert tokens.tolist() == [[1, 2, 3], [0, 0, 4]]
    assert valid is not None
    assert valid.tolist() == [[True, True, True], [False, False, True]]


@pytest.mark.parametrize(
    ("prompts", "n", "cache", "message"),
    [
        ([[]], 5, "full", "empty"),
        ([], 5, "full", "empty"),
        ([[1, 40]], 5, "full", "Token 40 is not in the model's vocabulary of 40"),
        ([[-1]], 5, "full", "Token -1"),
        ([[1]], 0, "full", "max_new_tokens must be at least 1"),
        ([[1] * 25], 5, "full", "25 tokens, but this model's context is 24"),
    ],
)
def test_what_cannot_be_generated_is_refused_in_a_sentence(llama, prompts, n, cache, message):
    with pytest.raises(GenerationError, match=message):
        list(generate(llama, prompts, max_new_tokens=n, sampling=GREEDY, cache=cache))


@pytest.mark.parametrize(
    "cache", ["", "full:3", "window", "window:0", "window:25", "sinks:4", "sinks:4+", "sinks:20+5"]
)
def test_a_cache_that_cannot_be_is_refused(llama, cache):
    with pytest.raises(ConfigError, match="cache policy"):
        list(generate(llama, [[1]], max_new_tokens=5, sampling=GREEDY, cache=cache))


@torch.no_grad()
def test_buffers_grow_to_the_size_of_the_policy_and_no_further(llama):
    state = llama.begin(None, sinks(2, 6))
    for token in range(20):
        llama(torch.tensor([[token]]), state)
    buffers = [buffer.data_ptr() for layer in state.layers for buffer in layer.buffers]
    for token in range(20):
        llama(torch.tensor([[token]]), state)
    assert buffers == [buffer.data_ptr() for layer in state.layers for buffer in layer.buffers]
    state = llama.begin(None, full(5))
    llama(torch.tensor([[1, 2, 3, 4, 5]]), state)
    assert state.layers[0].buffers[0].shape[2] == 6
