"""Scores of descriptions: by hand, against METEOR 1.5, and what becomes of odd texts and missing programs."""

from __future__ import annotations

import math
import random
import shutil
import stat
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from elysium.errors import InputError
from elysium.evaluation import caption, meteor
from elysium.evaluation.caption import CaptionScores, caption_scores

needs_package = pytest.mark.skipif(find_spec("pycocoevalcap") is None, reason="needs pycocoevalcap (extra eval)")
needs_stemmer = pytest.mark.skipif(find_spec("snowballstemmer") is None, reason="needs snowballstemmer (extra eval)")
needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="needs a Java runtime")

# "score | prediction | references". The scores are those of METEOR 1.5, the program in pycocoevalcap 1.2, with the
# modules and weights that ours has: each line as `SCORE ||| references ||| prediction` into
#   java -Xmx2G -jar meteor-1.5.jar - - -stdio -l en -m 'exact stem' -w '1.0 0.6'
# and what that answers as `EVAL ||| answer` into it again.
METEOR_PAIRS = """
1.000000000000 | a man walks his dog in the park | a man walks his dog in the park
0.421713877083 | a man is walking a dog in the park | a man walks his dog in the park
0.545285030047 | in the park a man walks his dog | a man walks his dog in the park
0.477669662022 | his dog walks a man in the park | a man walks his dog in the park
0.400000000000 | park the in dog his walks man a | a man walks his dog in the park
0.074074074074 | the the the the | the cat sat on the mat
0.431025136845 | the cat the cat on the mat | the cat is on the mat
0.506874451145 | a red car next to a blue car | a blue car next to a red car
0.346459726491 | a a a red red car | a red car and a red bus
0.264984630027 | two dogs running on the grass | a dog runs across the grass
0.082758620690 | the runner ran | running runners run
0.247130140019 | children playing football | the child plays football with other children
0.296807565316 | a white boat sailing on the water | white boats sail on blue waters
0.000000000000 | nothing in common here | some other words entirely
1.000000000000 | cat | cat
0.600000000000 | cat | cats
1.000000000000 | the | the
0.446735253111 | of the in | in of the
0.410898633998 | a person riding a horse | a woman rides a horse | a person on a horse | somebody is riding
1.000000000000 | the woman in the red dress | the man in the suit | the woman in the red dress | a woman
0.435886720666 | a bird flying over the sea | birds fly over the sea | a bird flies over the ocean
0.451750173965 | black and white cat lying on a sofa | a black and white cat lies on the sofa
0.395312823743 | a young boy in a blue shirt kicks a ball | a boy in a blue shirt is kicking the ball
0.460404493515 | man wearing a hat and a coat and a scarf | a man wearing a coat and a hat
0.207792207792 | left most zebra | the zebra on the far left | leftmost zebra
0.111420612813 | a train a train a train | a long train on the tracks passing a station
0.256000000000 | someone is cooking and someone is eating | someone eats while someone cooks
0.518355062944 | the quick brown fox jumps over the lazy dog | the lazy dog jumps over the quick brown fox
0.356166155802 | a drone footage of the city at night with moving cars | footage of a city by night with cars that move
0.390392033628 | she said that she would have been there after one year | one year after she said she would be there
0.424051828409 | it s not clear what they are doing with their hands | what they do with their hands is not clear
0.377164346798 | a big big big dog | a big dog and a big big cat
"""
METEOR_OF_ALL = 0.37150758241628146  # what `EVAL ||| answer ||| answer ...` said of all of them together
# Those words of the pairs that are in METEOR's list of function words.
FUNCTION_WORDS = frozenset(
    "a after and are at be been by have his in is it not of on one other over s said she some that the their there "
    "they to two what with would year".split()
)

REFERENCES = {
    "walk": ["A man walks his dog in the park.", "A man, walking a dog."],
    "car": ["A red car (parked) next to the house"],
    "empty": ["Two kids play football."],
    "dots": ["A bird flies over the sea!"],
    "bars": ["A cat lying on the sofa", "The cat's asleep"],
    "same": ["A young woman in a blue dress doesn't smile."],
    "synonyms": ["A large automobile is parked near the building."],
    "café": ["People sit outside a café in the well-known street 3.5 km away"],
}
PREDICTIONS = {
    "walk": "The man is walking a dog",
    "car": "an automobile parked beside a home",
    "empty": "",
    "dots": "...",
    "bars": "a cat ||| on\nthe\u2028sofa",
    "same": "a young woman in a blue dress doesn't smile",
    "synonyms": "A big car stands close to the house.",
    "café": "people are sitting in front of a café",
}


def score(predicted: str, *references: str) -> float:
    words = [reference.split() for reference in references]
    return meteor.meteor_score(meteor.best_counts(predicted.split(), words, FUNCTION_WORDS))


def rows() -> list[list[str]]:
    return [line.split(" | ") for line in METEOR_PAIRS.strip().splitlines()]


@needs_stemmer
@pytest.mark.parametrize("row", rows(), ids=lambda row: row[1])
def test_meteor_is_that_of_the_program(row):
    assert score(row[1], *row[2:]) == pytest.approx(float(row[0]), abs=1e-12)


@needs_stemmer
def test_meteor_of_a_set_adds_up_counts():
    counts = [
        meteor.best_counts(predicted.split(), [reference.split() for reference in references], FUNCTION_WORDS)
        for _, predicted, *references in rows()
    ]
    assert meteor.meteor_score(np.sum(counts, axis=0)) == pytest.approx(METEOR_OF_ALL, abs=1e-15)


@needs_stemmer
def test_meteor_by_hand():
    # 3 of 4 and of 5 words match, all of them content words, "dogs" by its stem: P = 2.6/4, R = 2.6/5, two chunks.
    f_mean = 1 / (0.85 / (2.6 / 5) + 0.15 / (2.6 / 4))
    assert score("red dogs eat fish", "red dog ran past fish") == pytest.approx((1 - 0.6 * (2 / 3) ** 0.2) * f_mean)
    assert score("the dog", "the cat") == pytest.approx(0.25 * (1 - 0.6))  # one function word: 0.25 of 1
    assert score("", "a dog") == score("a dog", "his fish") == 0


@needs_stemmer
def test_a_stem_match_with_an_alternative_counts_too():
    # METEOR 1.5 says 0.098765432099 here: it rounds the weight of a stem match to 0 while it searches, and drops it.
    assert score("dog a runs b runs", "dog c run d") == pytest.approx(0.1580246913580247)


@needs_stemmer
def test_the_alignment_is_the_best_there_is():
    rng = random.Random(0)
    for _ in range(300):
        predicted, reference = ([rng.choice(["a", "run", "runs"]) for _ in range(rng.randint(1, 6))] for _ in range(2))
        found = meteor.align(predicted, reference)
        assert cost(found, predicted, reference) == min(
            cost(pairs, predicted, reference) for pairs in all_matchings(predicted, reference)
        )


def all_matchings(predicted, reference, i=0, used=frozenset()):
    """Every way to pair words of the same stem, none twice."""
    if i == len(predicted):
        yield ()
        return
    yield from all_matchings(predicted, reference, i + 1, used)
    for j, word in enumerate(reference):
        if j not in used and word[:3] == predicted[i][:3]:
            for rest in all_matchings(predicted, reference, i + 1, used | {j}):
                yield ((i, j), *rest)


def cost(pairs, predicted, reference):
    stem_only = sum(predicted[i] != reference[j] for i, j in pairs)
    return -len(pairs), stem_only, meteor.num_chunks(pairs), sum(abs(i - j) for i, j in pairs)


@needs_stemmer
def test_many_words_many_times_are_aligned_in_time():
    words = "the dog the cat the dog the man".split() * 6
    pairs = meteor.align(words, words[3:] + words[:3])
    assert len(pairs) == len({j for _, j in pairs}) == 48 and meteor.num_chunks(pairs) <= 4


@needs_package
@needs_stemmer
class TestWithoutJava:
    def test_perfect_texts_have_the_highest_scores(self):
        texts = {"a": "a red car drives past", "b": "two dogs play on grass"}
        scores = caption_scores(texts, {id: [text] for id, text in texts.items()}, java=False)
        assert scores.meteor == 100 and scores.cider == pytest.approx(1000)
        assert scores.bleu4 == pytest.approx(100) and scores.rouge_l == pytest.approx(100)
        assert scores.num_items == 2 and list(scores.items) == ["a", "b"]
        assert scores.meteor_name == "METEOR (exact and stem, no synonyms)" and scores.tokenizer == "regular expression"

    def test_bleu_by_hand(self):
        references = {"long": ["the cat sat on the mat"], "short": ["the cat sat on the mat"]}
        given = {"long": "the cat sat on the mat now", "short": "the cat sat on"}
        scores = caption_scores(given, references, java=False)
        # Of 7 + 4 words 6 + 4 are right, of 6 + 3 pairs 5 + 3, and so on; 11 words for 12, so it is too short.
        precisions = [10 / 11, 8 / 9, 6 / 7, 4 / 5]
        assert scores.bleu4 == pytest.approx(100 * math.prod(precisions) ** 0.25 * math.exp(1 - 12 / 11))
        assert scores.items["long"].bleu4 == pytest.approx(100 * (3 / 7) ** 0.25)  # 6/7 5/6 4/5 3/4
        assert scores.items["short"].bleu4 == pytest.approx(100 * math.exp(1 - 6 / 4))

    def test_rouge_by_hand(self):
        given = {"same length": "the dog runs fast", "longer": "a red car"}
        truth = {"same length": ["the dog quickly runs"], "longer": ["a car"]}
        scores = caption_scores(given, truth, java=False)
        assert scores.items["same length"].rouge_l == pytest.approx(75)  # 3 of 4 and 3 of 4
        # P = 2/3, R = 1, F = (1 + 1.2^2) P R / (R + 1.2^2 P)
        assert scores.items["longer"].rouge_l == pytest.approx(100 * 2.44 * (2 / 3) / (1 + 1.44 * 2 / 3))
        assert scores.rouge_l == pytest.approx(np.mean([item.rouge_l for item in scores.items.values()]))

    def test_cider_by_hand(self):
        given = {"same": "red car", "half": "big dog", "short": "cat"}
        truth = {"same": ["red car"], "half": ["big bus"], "short": ["cat runs"]}
        scores = caption_scores(given, truth, java=False)
        # Every n-gram is in the references of one item or of none, so all have the same weight.
        assert scores.items["same"].cider == pytest.approx(1000 * (1 + 1) / 4)  # one and two words; there are no three
        assert scores.items["half"].cider == pytest.approx(1000 * (1 / 2) / 4)  # one of two words
        late = math.exp(-1 / (2 * 6**2))  # a pair of words less than the reference, sigma is 6
        assert scores.items["short"].cider == pytest.approx(1000 * late / math.sqrt(2) / 4)
        assert scores.cider == pytest.approx(np.mean([item.cider for item in scores.items.values()]))

    def test_nothing_said_scores_nothing(self):
        scores = caption_scores({"a": "", "b": " \n... "}, {"a": ["a dog"], "b": ["two cats"]}, java=False)
        assert (scores.meteor, scores.cider, scores.bleu4, scores.rouge_l) == (0, 0, 0, 0)

    def test_the_best_reference_counts(self):
        scores = caption_scores({"a": "a dog"}, {"a": ["some text", "a dog", "..."]}, java=False)
        assert scores.items["a"].meteor == scores.items["a"].rouge_l == 100
        assert scores.cider == 0  # one item: no n-gram is rarer than another

    def test_ids_without_references_are_left_out(self):
        scores = caption_scores({"a": "a dog", "z": "a cat"}, {"a": ["a dog"]}, java=False)
        assert list(scores.items) == ["a"]

    def test_words(self):
        text = "The man’s well-known CAR, (3.5 km) doesn't 'stop' at 10. Over\n||| it_1!"
        words = "the man 's well-known car 3.5 km doesn 't stop at 10 over it_1"
        assert caption._regex_tokens({"a": [text]}) == {"a": [words]}

    def test_no_java_is_asked_for(self, monkeypatch):
        monkeypatch.setenv("PATH", "")
        assert caption_scores({"a": "a dog"}, {"a": ["a dog"]}, java=False).meteor == 100


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ({"a": "x"}, {k: ["x"] for k in "abcde"}, "4 of 5 ids have no description: 'b', 'c', 'd' and others."),
        ({"b": "x"}, {"a": ["x"], "b": ["x"]}, "1 of 2 ids have no description: 'a'."),
        ({}, {}, "no reference sentences"),
        ({"a": "x"}, {"a": "a dog"}, "'a' are one text"),
    ],
)
def test_ids_must_fit(predictions, references, message):
    with pytest.raises(InputError) as caught:
        caption_scores(predictions, references)
    assert message in str(caught.value) and caught.value.remedy


@needs_package
def test_a_reference_needs_a_word():
    with pytest.raises(InputError, match="2 ids have no reference sentence with a word in it: 'a', 'b'"):
        caption_scores({"a": "x", "b": "x"}, {"a": ["", "!"], "b": []}, java=False)


@pytest.mark.parametrize("java", [True, False])
def test_without_the_package(monkeypatch, java):
    for name in [name for name in sys.modules if name.startswith("pycocoevalcap")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pycocoevalcap", None)
    with pytest.raises(InputError, match=r"'pycocoevalcap'.*not installed.*pip install \"elysium-video\[eval\]\""):
        caption_scores({"a": "x"}, {"a": ["x"]}, java=java)


def test_without_the_stemmer(monkeypatch):
    monkeypatch.setitem(sys.modules, "snowballstemmer", None)
    meteor.stem.cache_clear()
    meteor._stemmer.cache_clear()
    with pytest.raises(InputError, match=r"'snowballstemmer'.*pip install \"elysium-video\[eval\]\""):
        meteor.align(["dog"], ["dogs"])


@needs_package
def test_without_java(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match=r"need Java, .*default-jre-headless.*--no-java"):
        caption_scores({"a": "x"}, {"a": ["x"]})


@needs_package
@pytest.mark.skipif(not Path("/bin/sh").exists(), reason="needs a shell")
@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("cat >/dev/null; echo one; echo 'out of luck' >&2; exit 3", "gave 1 answers to 2 lines and said: out of luck"),
        ("cat >/dev/null; echo x; echo y; exit 1", "gave 2 answers to 2 lines and said: nothing"),
        ("exec /bin/sleep 60", "Java cannot be used: .*timed out"),
    ],
)
def test_java_that_does_not_work(monkeypatch, tmp_path, script, message):
    java = tmp_path / "java"
    java.write_text(f"#!/bin/sh\nPATH=/bin:/usr/bin\n{script}\n")
    java.chmod(java.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(caption, "JAVA_START_S", 0.3)
    with pytest.raises(InputError, match=message):
        caption._java(["-jar", "some.jar"], ["first", "second"])


@needs_package
@needs_java
def test_the_ptb_tokenizer():
    texts = ["The man’s dog doesn't bark.", "", "a ||| b\r\nc\u2028d", "A café (3.5 km)!", "...", "日本 \ud800 x"]
    tokens = caption._ptb_tokens({"a": texts, "b": [], "c": ["Hello."]})
    # Brackets stay, as in COCO's evaluation: its list of punctuation has -LRB-, the tokenizer writes -lrb-.
    expected = ["the man 's dog does n't bark", "", "a b c d", "a café -lrb- 3.5 km -rrb-", ""]
    assert tokens["a"][:5] == expected and tokens["a"][5].startswith("日本") and tokens["b"] == []
    assert tokens["c"] == ["hello"]


@pytest.fixture(scope="module")
def java_scores() -> CaptionScores:
    return caption_scores(PREDICTIONS, REFERENCES)


@needs_package
@needs_java
class TestWithJava:
    """Against the classes of pycocoevalcap 1.2 (PTBTokenizer, Meteor, Bleu, Rouge, Cider), run on the same texts with
    Java 17; the prediction of "bars" was given to them as "a cat on the sofa"."""

    def test_of_the_set(self, java_scores):
        assert java_scores.meteor == pytest.approx(24.483239733501566)
        assert java_scores.cider == pytest.approx(201.84076154297856)
        assert java_scores.bleu4 == pytest.approx(27.08606493481144)
        assert java_scores.rouge_l == pytest.approx(41.16233621311474)
        assert (java_scores.meteor_name, java_scores.tokenizer) == ("METEOR 1.5", "PTB tokenizer")

    def test_of_each_item(self, java_scores):
        meteors = [42.191927446, 8.376963351, 0, 0, 38.997512381, 100, 25.806316779, 9.143356623]
        ciders = [249.24523181, 15.57954094, 0, 0, 266.73012354, 1000, 1.01342069, 82.15777536]
        assert [item.meteor for item in java_scores.items.values()] == pytest.approx(meteors)
        assert [item.cider for item in java_scores.items.values()] == pytest.approx(ciders)


def test_what_is_missing_is_told_before_anything_is_described(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    from elysium.cli.main import main
    from elysium.evaluation import caption

    pytest.importorskip("pycocoevalcap")
    monkeypatch.setattr(caption.shutil, "which", lambda name: None)
    caption.check_tools(java=False)
    with pytest.raises(InputError, match="need Java"):
        caption.check_tools()
    assert main(["eval", "REG", "--annotations", "nosuch.jsonl", "--output", str(tmp_path / "out")]) == 2
    monkeypatch.setattr(caption, "import_module", lambda name: (_ for _ in ()).throw(ModuleNotFoundError(name)))
    with pytest.raises(InputError, match="need the package 'pycocoevalcap'"):
        caption.check_tools(java=False)
