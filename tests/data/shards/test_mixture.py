# SPDX-License-Identifier: Apache-2.0
"""The mixture: shares by bytes that hold all along, sources that end, sources that repeat."""

import itertools

import pytest

from scratch_gpt.data.shards.mixture import Mixture
from scratch_gpt.data.sources.source import Source
from wording import user_error


A, B, C = Source("a", "a.txt", weight=3), Source("b", "b.txt", weight=1), Source("c", "c.txt", weight=0)
PRIMER = Source("p", "primer", weight=1)


def reader(texts):
    """Makes a pass over the texts of a source; the primer's never end."""
    return lambda source: itertools.cycle(texts["p"]) if source.name == "p" else iter(texts[source.name])


def test_bytes_follow_the_weights_at_any_point():
    """With documents of unlike length, consumed bytes stay within one document of 3 to 1; weight 0 is not read."""
    mixture = Mixture([A, B, C], reader({"a": ["\u00e9" * 20] * 50, "b": ["x" * 7] * 500}), "never")
    for _ in itertools.islice(mixture, 400):
        consumed = mixture.consumed
        assert abs(consumed["a"] / 3 - consumed["b"]) <= 40
    assert set(consumed) == {"a", "b"}
    assert consumed["a"] > 1000


@pytest.mark.parametrize(
    ("stop", "counts"), [("first_exhausted", {"a": 3, "b": 1}), ("all_exhausted", {"a": 13, "b": 4})]
)
def test_finite_sources_end_the_stream(stop, counts):
    """Either at the end of the shortest source, or when each was read once, the shorter ones being repeated."""
    mixture = Mixture([A, B], reader({"a": ["aa"] * 3, "b": ["bb"] * 4}), stop)
    drawn = [source.name for source, _ in mixture]
    assert {name: drawn.count(name) for name in counts} == counts


def test_epochs_are_bytes_used_over_the_size_of_a_pass():
    """25 bytes of a source of 10 are 2.5 passes; the size is known after the first pass, and never for the primer."""
    mixture = Mixture([B, PRIMER], reader({"b": ["12345"] * 2, "p": ["12345"]}), "never")
    stream = iter(mixture)
    next(stream)
    assert mixture.epochs(B, 5) is None
    for _ in range(9):
        next(stream)
    assert mixture.epochs(B, 25) == 2.5
    assert mixture.epochs(PRIMER, 25) is None


def test_empty_source_is_an_error_not_an_endless_loop():
    """A source without any text is named."""
    with user_error("source_empty", "b.txt", source="b"):
        list(Mixture([A, B], reader({"a": ["text"], "b": []}), "never"))


def test_restored_mixture_goes_on_alike():
    """From a state, with streams that go on from their places, the same documents come as without the stop."""
    texts = {"a": ["aaa", "a", "aa"] * 9, "b": ["b", "bbbb"] * 9}
    whole = [(source.name, text) for source, text in Mixture([A, B], reader(texts), "first_exhausted")]
    stopped = Mixture([A, B], reader(texts), "first_exhausted")
    drawn = [(source.name, text) for source, text in itertools.islice(stopped, 7)]
    taken = {name: sum(drawn_name == name for drawn_name, _ in drawn) for name in texts}
    again = Mixture([A, B], lambda source: iter(texts[source.name][taken[source.name] :]), "first_exhausted")
    again.restore(stopped.state())
    assert drawn + [(source.name, text) for source, text in again] == whole
