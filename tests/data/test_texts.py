"""Texts as tokens: words, the vocabulary, and the way back."""

import json

import pytest
import torch

from fastgan.data.texts import END, PADDING, START, UNKNOWN, Vocabulary, length_of, words


def test_words_are_lower_case_and_punctuation_stands_alone():
    assert words("It's RED, very red!") == ["it's", "red", ",", "very", "red", "!"]
    assert words("  ") == []
    assert words("cafe\u0301") == words("caf\u00e9") == ["café"]


def test_the_most_frequent_words_come_first():
    vocabulary = Vocabulary.of(["b a c", "c b", "c"])
    assert vocabulary.words == ("<pad>", "<unk>", "<start>", "<end>", "c", "b", "a")
    assert Vocabulary.of(["c", "b c", "c a b"]) == vocabulary, "the order of the texts does not matter"
    assert Vocabulary.of(["b a", "a b"]).words[4:] == ("a", "b"), "as frequent: by their characters"
    assert Vocabulary.of(["b a c", "c b", "c"], most=2).words[4:] == ("c", "b")


def test_it_is_plain_text():
    vocabulary = Vocabulary.of(["a red circle", "a crème square"])
    assert Vocabulary(json.loads(json.dumps(list(vocabulary)))) == vocabulary


def test_encode_and_decode():
    vocabulary = Vocabulary.of(["a red circle"])
    tokens = vocabulary.encode(["A circle", "a blue circle", ""], 5)
    a, circle = vocabulary.words.index("a"), vocabulary.words.index("circle")
    assert tokens.tolist() == [
        [START, a, circle, END, PADDING],
        [START, a, UNKNOWN, circle, END],
        [START, END, PADDING, PADDING, PADDING],
    ]
    assert tokens.dtype == torch.int64
    assert vocabulary.decode(tokens) == ["a circle", "a <unk> circle", ""]
    assert vocabulary.decode(torch.tensor([[a, circle, a]])) == ["a circle a"], "as a network makes them, without end"
    assert vocabulary.encode([], 4).shape == (0, 4)


def test_the_length_of_the_longest_text_is_enough():
    texts = ["a", "a red circle, and more", ""]
    length = length_of(texts)
    Vocabulary.of(texts).encode(texts, length)
    with pytest.raises(ValueError, match=rf"takes {length} tokens with start and end, the field has {length - 1}"):
        Vocabulary.of(texts).encode(texts, length - 1)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda v: v.encode("a text", 9), TypeError, "a sequence of strings, not one string"),
        (lambda v: v.encode(["a", 3], 9), TypeError, "a sequence of strings, not int"),
        (lambda v: v.encode(["a " * 200], 9), ValueError, r"'a a a .*\.\.\.' takes 202 tokens .* at least 202"),
        (lambda v: v.encode(["a"], 0), ValueError, "length must be a positive integer"),
        (lambda v: v.decode(torch.zeros(3)), ValueError, r"integer tensor \(B, length\), not torch.float32 \(3,\)"),
        (lambda v: v.decode(torch.tensor([[9]])), ValueError, r"in 0\.\.4, not 9\.\.9"),
        (lambda v: Vocabulary(["a"]), ValueError, "begins with <pad>, <unk>, <start>, <end>, not a"),
        (lambda v: Vocabulary([*v, "a"]), ValueError, "each word once, not 'a' twice"),
        (lambda v: Vocabulary.of([], most=0), ValueError, "most must be a positive integer"),
    ],
)
def test_says_what_is_wrong(call, error, message):
    with pytest.raises(error, match=message):
        call(Vocabulary.of(["a"]))
