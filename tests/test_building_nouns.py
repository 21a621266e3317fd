"""Phrases of captions: a table written by hand, the rules one by one, expressions, and captions that are set aside.

building_captions.tsv: `expected` is what the rules should give, written before they were run; `now` what they give with
the small spaCy model where that differs ("-": nothing), known misses that are pinned. Its sets: `tuned` was looked at
while word lists and rules were made; of `read` the misses were read once, and a rule came of it; `fresh` was written
after that (26 of 30 then).
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest

from elysium.building.nouns import MOST_WORDS, SpacyNouns
from elysium.errors import InputError, ModelError

pytest.importorskip("spacy", reason="spaCy is not installed")
TABLE = Path(__file__).with_name("building_captions.tsv")
ROWS = list(csv.DictReader(TABLE.open(encoding="utf-8"), delimiter="\t", quoting=csv.QUOTE_NONE))


@pytest.fixture(scope="module")
def nouns() -> SpacyNouns:
    try:
        return SpacyNouns()
    except ModelError as error:
        pytest.skip(str(error))


def chunks(text: str) -> list[str]:
    return [] if text in ("", "-") else text.split("; ")


def test_every_caption_of_the_table_gives_what_the_table_says(nouns: SpacyNouns):
    wrong = {}
    for row in ROWS:
        got = [phrase.text for phrase in nouns.phrases(row["caption"])[0]]
        if got != chunks(row["now"] or row["expected"]):
            wrong[row["caption"]] = got
    assert not wrong


def test_the_share_of_captions_that_come_out_as_expected():
    agree = {name: [0, 0] for name in ("tuned", "read", "fresh")}
    for row in ROWS:
        agree[row["set"]][0] += not row["now"]
        agree[row["set"]][1] += 1
        assert not row["now"] or chunks(row["now"]) != chunks(row["expected"])
    assert agree == {"tuned": [108, 114], "read": [36, 40], "fresh": [27, 30]}


@pytest.mark.parametrize(
    ("caption", "what", "reason"),
    [
        ("A girl is full of love", "love", "abstract"),
        ("A man has no time", "no time", "abstract"),
        ("A girl practises her swimming", "her swimming", "abstract"),  # by its ending
        ("A boat on the water", "the water", "stuff"),
        ("A plane in the sky", "the sky", "stuff"),
        ("A dog on the beach", "the beach", "place"),
        ("Aerial view of a tower", "aerial view", "view"),
        ("The camera follows a horse", "the camera", "view"),
        ("A boy feeds two dogs", "two dogs", "plural"),
        ("A boy with his children", "his children", "plural"),
        ("A crowd watches a clown", "a crowd", "group"),
        ("A plate with a slice of cake", "a slice", "quantity"),
        ("She rides a bike", "she", "pronoun"),
        ("Somebody opens the door", "somebody", "pronoun"),
        ("A cab drives through Paris", "Paris", "name"),
        ("A dog chases a dog", "a dog", "duplicate"),
    ],
)
def test_what_is_dropped_and_why(nouns: SpacyNouns, caption: str, what: str, reason: str):
    kept, dropped = nouns.phrases(caption)
    assert (what, reason) in [(one.what, one.reason) for one in dropped]
    if reason != "duplicate":
        assert what not in [phrase.text for phrase in kept]


def test_words_with_accents_are_words(nouns: SpacyNouns):
    assert [one.text for one in nouns.phrases("A girl hits a piñata with a stick")[0]] == ["girl", "piñata", "stick"]


def test_names_are_written_as_names(nouns: SpacyNouns):
    assert [one.text for one in nouns.phrases("a green pentagon moves to the right")[0]] == ["green pentagon"]
    assert nouns.phrases("John and a friend in Madrid")[1][0].reason == "name"


def test_a_camera_that_someone_holds_is_a_thing(nouns: SpacyNouns):
    assert [phrase.text for phrase in nouns.phrases("A man holds a camera")[0]] == ["man", "camera"]


def test_verbs_that_were_taken_for_nouns_give_way_to_the_noun_before(nouns: SpacyNouns):
    (horse,), _ = nouns.phrases("A white horse gallops in slow motion through shallow water")
    assert (horse.text, horse.noun) == ("white horse", "horse")
    (fox,), _ = nouns.phrases("Red fox hunting in deep snow")
    assert (fox.text, fox.noun) == ("red fox", "fox")
    assert nouns.phrases("A few dogs")[0] == []  # plural all the same


@pytest.mark.parametrize(
    ("caption", "number", "expression"),
    [
        ("A running dog played in the snow field", 0, "a running dog played in the snow field"),
        ("A man in a red jacket rides a horse.", 0, "a man in a red jacket rides a horse"),
        ("A man in a red jacket rides a horse.", 1, "a red jacket"),
        ("A man and a woman walk hand in hand", 0, "a man"),  # what both do tells neither from the other
        ("A mother pushes a stroller while her son eats an apple", 2, "her son eats an apple"),
        ("The dog that chases the ball wears a green collar", 0, "the dog that chases the ball wears a green collar"),
        ("A black-and-white cat is sleeping.", 0, "a black-and-white cat is sleeping"),
        ("The man's hat falls into the river", 0, "the man's hat falls into the river"),
        ("Young Woman Walking On The Beach At Sunset", 0, "young woman walking on the beach at sunset"),
        ("A kid eats an ice cream in front of a shop", 1, "an ice cream"),
    ],
)
def test_expressions_hold_what_depends_on_the_noun(nouns: SpacyNouns, caption: str, number: int, expression: str):
    assert nouns.phrases(caption)[0][number].expression == expression


def test_a_clause_that_is_too_long_gives_way_to_the_noun(nouns: SpacyNouns):
    tail = " ".join(["along the road"] * MOST_WORDS)
    assert nouns.phrases(f"The dog runs {tail}")[0][0].expression == "the dog"


@pytest.mark.parametrize(
    ("caption", "names"),
    [
        ("A kid eats an ice cream", ["kid", "ice cream"]),
        ("A woman wears blue jeans and sunglasses", ["woman", "jeans", "sunglasses"]),
        ("A city bus passes a fire truck", ["bus", "fire truck"]),
    ],
)
def test_the_noun_is_the_head_in_the_singular(nouns: SpacyNouns, caption: str, names: list[str]):
    assert [phrase.noun for phrase in nouns.phrases(caption)[0]] == names


@pytest.mark.parametrize(
    ("caption", "sign"),
    [
        ("Ein Hund läuft über die Wiese", "function words of the language 'de'"),
        ("Un perro corre en la playa con un niño", "function words of the language 'es'"),
        ("Un homme fait du vélo", "function words of the language 'fr'"),
        ("Seorang pria sedang berjalan di pantai", "function words of the language 'id'"),
        ("Hund läuft Strand", "words that English does not have"),
        ("Pies biegnie po śniegu", "words that English does not have"),
        ("Собака бежит по снегу", "letters that are not Latin"),
        ("一只狗在雪地里奔跑", "letters that are not Latin"),
    ],
)
def test_captions_in_other_languages_are_set_aside_whole(nouns: SpacyNouns, caption: str, sign: str):
    kept, (dropped,) = nouns.phrases(caption)
    assert kept == [] and (dropped.what, dropped.reason, dropped.detail) == (caption, "not-english", sign)


def test_what_was_read_before_does_not_change_what_is_english():
    nouns = SpacyNouns()
    assert nouns.not_english("Hund läuft Strand")
    nouns.phrases("The man with the hund said läuft to the strand and they all went away from there")
    assert nouns.not_english("Hund läuft Strand")


def test_no_english_caption_of_the_table_is_taken_for_another_language(nouns: SpacyNouns):
    short = ["Skateboarder grinding handrail", "Plaza del Sol in Madrid, Spain", "Puppy", "A man makes a piñata"]
    assert [text for text in [*(row["caption"] for row in ROWS), *short] if nouns.not_english(text)] == []


@pytest.mark.parametrize("caption", ["", "   ", "!!!", "Running and jumping"])
def test_a_caption_without_nouns_says_so(nouns: SpacyNouns, caption: str):
    kept, (dropped,) = nouns.phrases(caption)
    assert kept == [] and (dropped.what, dropped.reason) == (caption, "no-nouns")


def test_expressions_of_a_user_are_taken_as_they_are(nouns: SpacyNouns):
    phrase = nouns.phrase_of(" The dogs  on the beach. ")
    assert (phrase.text, phrase.noun, phrase.expression) == ("dogs on the beach", "dog", "The dogs on the beach")
    assert nouns.phrase_of("leftmost").text == "leftmost"
    with pytest.raises(InputError, match="without words"):
        nouns.phrase_of(" . ")


def test_words_can_be_kept_and_dropped():
    nouns = SpacyNouns(keep=["Beach"], drop=["dog"])
    kept, dropped = nouns.phrases("A dog on the beach")
    assert [phrase.text for phrase in kept] == ["beach"]
    assert [(one.what, one.reason) for one in dropped] == [("a dog", "excluded")]


def test_what_is_missing_is_said_with_the_command_that_brings_it(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ModelError, match=r"cannot load the pipeline 'xx_none'.*elysium-video\[build\]"):
        SpacyNouns("xx_none")
    monkeypatch.setattr("spacy.util.is_package", lambda name: False)
    with pytest.raises(ModelError, match="No English pipeline of spaCy is installed: none of en_core_web_sm, en_core"):
        SpacyNouns()
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(ModelError, match="which cannot be imported"):
        SpacyNouns()
