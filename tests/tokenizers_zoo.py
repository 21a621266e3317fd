"""Small tokenizers built in memory, one for each way in which real ones cut boxes into tokens."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from sentencepiece import SentencePieceProcessor
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

SPECIALS = ["<unk>", "<s>", "</s>"]
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3_SPLIT = QWEN_SPLIT.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
BLOOM_SPLIT = r" ?[^(\s|[.,!?…。，、।۔،])]+"


def _corpus() -> Iterator[str]:
    rng = random.Random(0)
    for _ in range(400):
        boxes = [f"Frame {i}: [{','.join(str(rng.randint(0, 100)) for _ in range(4))}]" for i in range(1, 12)]
        yield "A chat between a user and an assistant. Please find the brown dog in each frame."
        yield ", ".join(boxes) + rng.choice(["", "."])
        yield boxes[0].removeprefix("Frame 1: ")


def _train(core: Tokenizer, *, size: int, byte_level: bool = True) -> PreTrainedTokenizerFast:
    alphabet = pre_tokenizers.ByteLevel.alphabet() if byte_level else []
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=SPECIALS, initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(_corpus(), trainer)
    return wrap(core)


def wrap(core: Tokenizer) -> PreTrainedTokenizerFast:
    """The Hugging Face tokenizer around a `tokenizers.Tokenizer`."""
    return PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )


def _byte_level(
    *splits: pre_tokenizers.PreTokenizer, size: int = 600, use_regex: bool = False
) -> PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE())
    tail = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)
    core.pre_tokenizer = pre_tokenizers.Sequence([*splits, tail])
    core.decoder = decoders.ByteLevel()
    return _train(core, size=size)


@cache
def qwen_like() -> PreTrainedTokenizerFast:
    """Byte-level BPE; digits one by one, " [" and "]," merged."""
    return _byte_level(pre_tokenizers.Split(Regex(QWEN_SPLIT), "isolated"))


@cache
def smollm2_like() -> PreTrainedTokenizerFast:
    """Byte-level BPE behind a pre-tokenizer that isolates every digit."""
    return _byte_level(pre_tokenizers.Digits(individual_digits=True), use_regex=True)


@cache
def gpt2_like() -> PreTrainedTokenizerFast:
    """Byte-level BPE that merges digits, as far as the training text took it: "34" or "10" + "0"."""
    return _byte_level(use_regex=True, size=330)


@cache
def llama3_like() -> PreTrainedTokenizerFast:
    """Byte-level BPE, up to three digits a token: every number 0..100 is one token, as in nano."""
    return _byte_level(pre_tokenizers.Split(Regex(LLAMA3_SPLIT), "isolated"), size=800)


@cache
def bloom_like() -> PreTrainedTokenizerFast:
    """Byte-level BPE whose pre-tokenizer leaves "[" with the number behind it."""
    return _byte_level(pre_tokenizers.Split(Regex(BLOOM_SPLIT), "isolated"), size=500)


@cache
def metaspace_like() -> PreTrainedTokenizerFast:
    """SentencePiece-style BPE cut at spaces only: tokens such as ",4" and "7]," straddle numbers."""
    core = Tokenizer(models.BPE(unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Metaspace()
    return _train(core, size=300, byte_level=False)


@cache
def unsplit() -> PreTrainedTokenizerFast:
    """BPE without any pre-tokenizer: tokens run across frames, "], Frame 2: [" and digits with them."""
    core = Tokenizer(models.BPE(unk_token="<unk>"))
    core.normalizer = normalizers.Replace(" ", "▁")
    core.decoder = decoders.Replace("▁", " ")
    return _train(core, size=300, byte_level=False)


@cache
def unigram() -> PreTrainedTokenizerFast:
    """SentencePiece's other model, digits one by one."""
    core = Tokenizer(models.Unigram())
    digits = pre_tokenizers.Digits(individual_digits=True)
    core.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), digits])
    core.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=100, special_tokens=SPECIALS, unk_token="<unk>", show_progress=False
    )
    core.train_from_iterator(_corpus(), trainer)
    return wrap(core)


@cache
def llama(model: Path) -> PreTrainedTokenizerFast:
    """The real LLaMA pieces: a byte-fallback BPE that writes a space before the text and nowhere cuts it.

    Built by hand, as transformers needs protobuf to read a SentencePiece model.
    """
    pieces = SentencePieceProcessor(model_file=str(model))
    vocab = {pieces.id_to_piece(i): i for i in range(pieces.vocab_size())}
    plain = [
        i
        for i in range(len(vocab))
        if not (pieces.is_control(i) or pieces.is_byte(i) or pieces.is_unknown(i))
    ]
    merges = []
    for i in sorted(plain, key=pieces.get_score, reverse=True):
        piece = pieces.id_to_piece(i)
        halves = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        inside = [(left, right) for left, right in halves if left in vocab and right in vocab]
        merges += sorted(inside, key=lambda pair: (vocab[pair[0]], vocab[pair[1]]))
    core = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    strip = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    core.decoder = decoders.Sequence(strip)
    return wrap(core)


IN_MEMORY = {
    "qwen": qwen_like,
    "smollm2": smollm2_like,
    "gpt2": gpt2_like,
    "llama3": llama3_like,
    "bloom": bloom_like,
    "unigram": unigram,
    "metaspace": metaspace_like,
    "unsplit": unsplit,
}
