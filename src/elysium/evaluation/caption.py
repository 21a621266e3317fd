"""Scores of descriptions against reference sentences: METEOR, CIDEr, BLEU-4 and ROUGE-L, for REG and Video-REG.

All four are those of the COCO caption evaluation, computed by the package pycocoevalcap (extra `eval`): Chen et al.,
"Microsoft COCO captions: data collection and evaluation server", 2015. Java does its tokens (Stanford's PTB tokenizer,
lower case, without punctuation) and METEOR 1.5. Without Java, words come from a regular expression, and METEOR from
`meteor.py`, which has no synonyms and says so in its name: such figures are for one's own comparisons, not for tables.

Knows texts by id. Knows nothing about models, boxes, data sets or files of results.

Its Python classes for the tokenizer and METEOR are not used, only their Java programs: the first writes a file into the
installed package, which fails where that may not be written to, the second can wait forever for an answer and leaves
its process to the garbage collector. We send all lines at once and read them back, and METEOR's formula is ours.

What to know about the figures:
- BLEU-4 (Papineni et al., 2002) and METEOR (Denkowski and Lavie, 2014) of a data set are not the mean of its items:
  counts are added up first. CIDEr (really CIDEr-D; Vedantam et al., 2015) and ROUGE-L (Lin, 2004) are means.
- CIDEr weighs n-grams by how rare they are among the references given, so it depends on the whole set. Its maximum
  is 1000 here: it is 10 for a perfect sentence, and everything is times 100. With one item alone it is 0.
- ROUGE-L here takes the best precision and the best recall over references, maybe of different ones, as COCO does.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TypeAlias

import numpy as np

from elysium.boxes import FloatArray
from elysium.errors import InputError
from elysium.evaluation.meteor import METEOR_NAME, NUM_COUNTS, best_counts, meteor_score, without_whole_chunk

JAVA_METEOR_NAME = "METEOR 1.5"
PTB_TOKENIZER = "PTB tokenizer"
REGEX_TOKENIZER = "regular expression"
JAVA_START_S = 600.0  # METEOR alone reads its paraphrases for 5 to 30 seconds
JAVA_LINE_S = 0.1
# Numbers with points or commas, words with hyphens, and what follows an apostrophe, which the PTB tokenizer splits too.
_WORD = re.compile(r"\d+(?:[.,]\d+)+|\w+(?:-\w+)*|(?<=\w)'\w+")
_BARS = re.compile(r"\|{2,}")

Texts: TypeAlias = dict[str, list[str]]  # by id, as pycocoevalcap wants it: words with one space between them


@dataclass(frozen=True)
class ItemScores:
    """Of one description, in per cent (CIDEr up to 1000). BLEU-4 of one sentence is mostly 0 and says little."""

    meteor: float
    cider: float
    bleu4: float
    rouge_l: float


@dataclass(frozen=True)
class CaptionScores:
    """Of a set of descriptions, in per cent (CIDEr up to 1000: 115.3 is a CIDEr of 1.153).

    Attributes:
        meteor, cider, bleu4, rouge_l: of the set, as papers report them.
        num_items: descriptions with references.
        meteor_name: which METEOR it is.
        tokenizer: what made the words.
        items: scores by id, in the order of the references, for bootstrap intervals.
    """

    meteor: float
    cider: float
    bleu4: float
    rouge_l: float
    num_items: int
    meteor_name: str
    tokenizer: str
    items: dict[str, ItemScores]


def caption_scores(
    predictions: Mapping[str, str], references: Mapping[str, Sequence[str]], *, java: bool = True
) -> CaptionScores:
    """Score descriptions.

    Args:
        predictions: text by id; an empty one scores 0. Ids without references are left out.
        references: one or more sentences by id.
        java: whether to use Java, which METEOR and the tokenizer of published figures need.

    Raises:
        InputError: an id has no prediction, or no reference with a word in it; there is no id at all; the package
            pycocoevalcap or Java is missing, or Java fails.

    >>> scores = caption_scores({"a": "a red car", "b": "two dogs"}, {"a": ["a red car"], "b": ["a cat"]}, java=False)
    >>> round(scores.rouge_l, 1), scores.meteor_name
    (50.0, 'METEOR (exact and stem, no synonyms)')
    """
    _check_ids(predictions, references)
    texts = {id_: [predictions[id_]] for id_ in references}
    tokenize = _ptb_tokens if java else _regex_tokens
    given, truth = tokenize(texts), tokenize({id_: list(texts) for id_, texts in references.items()})
    truth = _without_empty(truth)
    counts = _java_counts(given, truth) if java else _own_counts(given, truth)
    return _collected(given, truth, counts, java=java)


def _check_ids(predictions: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> None:
    if not references:
        raise InputError("There are no reference sentences", "Give at least one sentence for each id.")
    if missing := [id_ for id_ in references if id_ not in predictions]:
        raise InputError(
            f"{len(missing)} of {len(references)} ids have no description: {_first(missing)}",
            "Give a text for every id, an empty one where the model said nothing.",
        )
    for id_, texts in references.items():
        if isinstance(texts, str):  # a text is a sequence of letters too
            raise InputError(f"The references of {id_!r} are one text", "Give a list of sentences.")


def _without_empty(truth: Texts) -> Texts:
    """References without those that have no word: metrics divide by their length."""
    kept = {id_: [text for text in texts if text] for id_, texts in truth.items()}
    if empty := [id_ for id_, texts in kept.items() if not texts]:
        raise InputError(
            f"{len(empty)} ids have no reference sentence with a word in it: {_first(empty)}",
            "Leave these ids out, or give sentences for them.",
        )
    return kept


def _first(ids: Sequence[str]) -> str:
    """Up to three ids for a message."""
    return ", ".join(repr(id_) for id_ in ids[:3]) + (" and others" if len(ids) > 3 else "")


def _collected(given: Texts, truth: Texts, counts: FloatArray, *, java: bool) -> CaptionScores:
    """All scores; counts are METEOR's, (N, 23)."""
    cider, ciders = _package("cider.cider").Cider().compute_score(truth, given)
    rouge, rouges = _package("rouge.rouge").Rouge().compute_score(truth, given)
    bleu, bleus = _package("bleu.bleu").Bleu(4).compute_score(truth, given, verbose=0)
    meteor, meteors = meteor_score(counts.sum(axis=0)), [meteor_score(row) for row in counts]
    rows = zip(truth, meteors, ciders, bleus[3], rouges, strict=True)
    return CaptionScores(
        meteor=100 * meteor,
        cider=100 * float(cider),
        bleu4=100 * float(bleu[3]),
        rouge_l=100 * float(rouge),
        num_items=len(truth),
        meteor_name=JAVA_METEOR_NAME if java else METEOR_NAME,
        tokenizer=PTB_TOKENIZER if java else REGEX_TOKENIZER,
        items={id_: ItemScores(*(100 * float(value) for value in values)) for id_, *values in rows},
    )


def _package(name: str) -> ModuleType:
    """A module of pycocoevalcap. It has no annotations, so its classes count as Any."""
    try:
        return import_module(f"pycocoevalcap.{name}")
    except ModuleNotFoundError as error:
        raise InputError(
            "Scores of descriptions need the package 'pycocoevalcap', which is not installed",
            'Install elysium with its extra: pip install "elysium-video[eval]"',
        ) from error


def _regex_tokens(texts: Texts) -> Texts:
    """Lower-case words without punctuation. Simpler than the PTB tokenizer: "doesn't" is doesn 't, not does n't."""
    return {
        id_: [" ".join(_WORD.findall(text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))) for text in each]
        for id_, each in texts.items()
    }


def _ptb_tokens(texts: Texts) -> Texts:
    """Words of Stanford's PTB tokenizer, lower case, without the punctuation that COCO leaves out."""
    module = _package("tokenizer.ptbtokenizer")
    jar = Path(str(module.__file__)).with_name(module.STANFORD_CORENLP_3_4_1_JAR)
    options = ["-preserveLines", "-lowerCase", "-encoding", "UTF-8"]
    lines = [_one_line(text) for each in texts.values() for text in each]
    answers = _java(["-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer", *options], lines)
    punctuation = set(module.PUNCTUATIONS)
    words = iter([" ".join(word for word in line.split() if word not in punctuation) for line in answers])
    return {id_: [next(words) for _ in each] for id_, each in texts.items()}


def _one_line(text: str) -> str:
    """Text that neither the lines nor METEOR's separator, three bars, can take apart."""
    return " ".join(_BARS.sub(" ", text).split())


def _java_counts(given: Texts, truth: Texts) -> FloatArray:
    """(N, 23) counts of METEOR 1.5 with its four modules, on the options that COCO uses."""
    options = ["-", "-", "-stdio", "-l", "en", "-norm"]
    lines = [" ||| ".join(["SCORE", *map(_one_line, [*truth[id_], *given[id_]])]) for id_ in truth]
    answers = _java(["-jar", str(_meteor_jar()), *options], lines)
    rows = [np.array(answer.split(), dtype=np.float64) for answer in answers]
    if any(row.shape != (NUM_COUNTS,) for row in rows):
        raise InputError(f"METEOR answered {answers[0]!r} where {NUM_COUNTS} numbers belong", _NO_JAVA)
    return np.stack([without_whole_chunk(row) for row in rows])


def _own_counts(given: Texts, truth: Texts) -> FloatArray:
    """(N, 23) counts of `meteor.py`, with the function words of METEOR 1.5, read from its program (a zip file)."""
    with zipfile.ZipFile(_meteor_jar()) as jar:
        function_words = frozenset(jar.read("function/english.words").decode().split())
    rows = [best_counts(given[id_][0].split(), [t.split() for t in truth[id_]], function_words) for id_ in truth]
    return np.stack(rows)


def _meteor_jar() -> Path:
    module = _package("meteor.meteor")
    return Path(str(module.__file__)).with_name(module.METEOR_JAR)


_NO_JAVA = (
    "Install a Java runtime, for example apt install default-jre-headless, or use the metrics that need none: "
    "--no-java (java=False)."
)


def check_tools(*, java: bool = True) -> None:
    """Raise InputError if `caption_scores` could not be computed here: told before an hour of descriptions."""
    _package("bleu.bleu_scorer")
    if java:
        _find_java()


def _find_java() -> str:
    java = shutil.which("java")
    if java is None:
        raise InputError("METEOR and the PTB tokenizer need Java, which is not on this machine", _NO_JAVA)
    return java


def _java(arguments: Sequence[str], lines: Sequence[str]) -> list[str]:
    """Lines through a Java program that answers each with one; the process has ended when this returns or raises."""
    java = _find_java()
    # Old programs read in the encoding of the machine; the amount of memory is the one COCO's evaluation gives them.
    command = [java, "-Xmx2G", "-Dfile.encoding=UTF-8", *arguments]
    text, patience = "".join(f"{line}\n" for line in lines), JAVA_START_S + JAVA_LINE_S * len(lines)
    try:
        done = subprocess.run(command, input=text.encode("utf-8", "replace"), capture_output=True, timeout=patience)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"Java cannot be used: {error}", _NO_JAVA) from error
    answers = done.stdout.decode("utf-8", "replace").split("\n")[:-1]
    if done.returncode or len(answers) != len(lines):
        said = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["nothing"]
        raise InputError(f"Java gave {len(answers)} answers to {len(lines)} lines and said: {said[-1]}", _NO_JAVA)
    return answers
