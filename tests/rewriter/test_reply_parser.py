"""The reply parser: well-formed replies, broken ones, and a thousand mangled ones whose thought must never come out."""

from __future__ import annotations

import random

import pytest

from redraft.chat import ChatReply
from rewriter.reply import Rules, clean_answer, drop_repeated_sentences, parse_reply, review

PROMPT = "A fox in a red coat, it doesn't smile, under the sign “Tom's Café”."
THOUGHT = "The fox is the subject. SENTINEL. One coat, red."


@pytest.mark.parametrize(
    "text",
    [
        f"<think>{THOUGHT}</think><answer>{PROMPT}</answer>",
        f"<think>\n{THOUGHT}\n</think>\n\n<answer>\n{PROMPT}\n</answer>\n",
        f"<THINK>{THOUGHT}</THINK><Answer>{PROMPT}</ANSWER>",
        f"< think >{THOUGHT}</ think ><answer >{PROMPT}</answer >",
        f"<thinking>{THOUGHT}</thinking><answer>{PROMPT}</answer>",
        f"<think type='x'>{THOUGHT}</think><answer>{PROMPT}</answer>",
        f"<thi\u200bnk>{THOUGHT}</think>\u200b<answer>\ufeff{PROMPT}\u200b</answer>",
        f"&lt;think&gt;{THOUGHT}&lt;/think&gt;&lt;answer&gt;{PROMPT}&lt;/answer&gt;",
        # one tag short
        f"{THOUGHT}</think><answer>{PROMPT}</answer>",
        f"<think>{THOUGHT}<answer>{PROMPT}</answer>",
        f"<think>{THOUGHT}</think>{PROMPT}</answer>",
        f"<think>{THOUGHT}</think><answer>{PROMPT}",
        f"<think>{THOUGHT}</think><answer>{PROMPT}</ans",
        f"<think>{THOUGHT}</think><answer>{PROMPT}<answer>",
        f"<think>{THOUGHT}</think>{PROMPT}",
        f"{THOUGHT}<answer>{PROMPT}</answer>",
        f"<think>{THOUGHT}</think\n<answer>{PROMPT}</answer>",
        f"think>{THOUGHT}</think><answer>{PROMPT}</answer>",
        # nested and repeated
        f"<think>a<think>{THOUGHT}</think>b</think><answer>{PROMPT}</answer>",
        f"<think>a<think>{THOUGHT}</think>SENTINEL.\n<answer>{PROMPT}</answer>",
        f"<think>a</think><think>{THOUGHT}</think><answer>{PROMPT}</answer>",
        f"<answer><think>{THOUGHT}</think>{PROMPT}</answer>",
        f"<think>{THOUGHT}</think><answer><answer>{PROMPT}</answer></answer>",
        f"<think>as <answer>SENTINEL</answer>?</think><answer>{PROMPT}</answer>",
        f"<think>{THOUGHT}</think><answer>a first draft</answer><answer>{PROMPT}</answer>",
        f"<think>{THOUGHT}</think><answer>{PROMPT}</answer><answer></answer>",
        f"<think>{THOUGHT}</think><answer>{PROMPT}</answer><answer>cut",
        f"<answer>{PROMPT}</answer><think>{THOUGHT}",
        # words around
        f"<think>{THOUGHT}</think>Sure! Here it is:<answer>{PROMPT}</answer> I hope you like it.",
        f"Rewrite: a fox\n<think>{THOUGHT}</think><answer>{PROMPT}</answer>",
        f"<think>{THOUGHT}</think><answer>Here is the rewritten prompt:\n{PROMPT}</answer>",
        f"<think>{THOUGHT}</think><answer>**Prompt:** {PROMPT}</answer>",
        f'<think>{THOUGHT}</think><answer>"{PROMPT}"</answer>',
        f"<think>{THOUGHT}</think><answer>'{PROMPT}'</answer>",
        f"<think>{THOUGHT}</think><answer>「{PROMPT}」</answer>",
        f"<think>{THOUGHT}</think><answer>**{PROMPT}**</answer>",
        f"<think>{THOUGHT}</think><answer>```\n{PROMPT}\n```</answer>",
        f"<think>{THOUGHT}</think>\n```text\n{PROMPT}\n```",
        f"```\n<think>{THOUGHT}</think>\n{PROMPT}\n```",
        f'<think>{THOUGHT}</think><answer>```\nHere\'s the prompt: "{PROMPT}"\n```</answer>',
        f"<think>{THOUGHT}</think><answer>{PROMPT}</answer><|im_end|>",
        f"<think>{THOUGHT}</think>{PROMPT}<|im_end|>",
    ],
)
def test_prompt_is_found(text: str) -> None:
    parsed = parse_reply(text)
    assert parsed.prompt == PROMPT
    assert parsed.problem is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   \n",
        "\u200b",
        THOUGHT,
        f"<think>{THOUGHT}",
        f"<think>{THOUGHT}</think>",
        f"<think>{THOUGHT}</think><answer></answer>",
        f"<think>{THOUGHT}</think><answer> … </answer>",
        f"<think>{THOUGHT}</think><answer>",
        f"<think>{THOUGHT}</think><answer>``` ```</answer>",
        f"<think>{THOUGHT} <answer>SENTINEL draft</answer></think>",
        f"<think>{THOUGHT} <answer>SENTINEL draft</answer> no, better",
        f"<think>a<think>b</think>{THOUGHT}",
        f"<think>{THOUGHT}</think><think>SENTINEL again",
        f"<think>a<think>{THOUGHT}</think>written in <answer>SENTINEL</answer>",
        f"<answer><think>{THOUGHT}</answer>SENTINEL",
        f"{THOUGHT} in <answer> tags SENTINEL",
        f"{THOUGHT}</answer>",
        f"<think{THOUGHT}",
        f"<think/>{THOUGHT}",
        f"<think>{THOUGHT} <answer> then",
    ],
)
def test_no_prompt_rather_than_a_doubtful_one(text: str) -> None:
    parsed = parse_reply(text)
    assert parsed.prompt is None
    assert parsed.problem


def test_a_cut_reply_gives_only_what_was_complete() -> None:
    full = f"<think>{THOUGHT}</think><answer>{PROMPT}</answer> and"
    for end in range(len(full)):
        parsed = parse_reply(full[:end], truncated=True)
        complete = end >= full.index("</answer>") + len("</answer")
        assert parsed.prompt == (PROMPT if complete else None), full[:end]


def test_reasoning_split_off_by_the_server() -> None:
    assert parse_reply(PROMPT, reasoning=THOUGHT).prompt == PROMPT
    assert parse_reply(PROMPT, reasoning=THOUGHT).thought == THOUGHT
    assert parse_reply(f"<answer>{PROMPT}</answer>", reasoning=THOUGHT).prompt == PROMPT
    assert parse_reply(PROMPT, reasoning=THOUGHT, truncated=True).prompt is None
    assert parse_reply("", reasoning=f"{THOUGHT}<answer>{PROMPT}</answer>").prompt is None
    assert parse_reply(f"<think>more {THOUGHT}", reasoning="a").prompt is None


def test_thought_is_told_without_the_echo_of_the_request() -> None:
    parsed = parse_reply(f"Rewrite: a fox\n<think>{THOUGHT}</think><answer>{PROMPT}</answer>")
    assert parsed.thought == THOUGHT
    assert parse_reply(f"{THOUGHT}</think>{PROMPT}").thought == THOUGHT
    assert parse_reply(f"<think>{THOUGHT}").thought == THOUGHT


@pytest.mark.parametrize(
    "text",
    [
        "don't, it's the dogs' bowl in the '90s, rock 'n' roll",
        '"OPEN" on the left door and "CLOSED" on the right',
        "'Hello' says the fox, 'goodbye' says the owl",
        "“Yes” beside “No”",
        "A poster: big letters, red",
        "A 5' tall robot with a 12\" screen",
        "«Привет» и «Пока»",
        "它说“你好”，我说“再见”",
        "A prompt box with a blinking cursor",
        "Sure-footed goats on a cliff",
        "Sure, why not: a goat",
    ],
)
def test_quotes_and_apostrophes_are_not_touched(text: str) -> None:
    if text.startswith("Sure, why"):
        assert clean_answer(text) == "a goat"  # the price of dropping "Sure, …:"
    else:
        assert clean_answer(text) == text


THOUGHTS = ("so the fox.", "Step 1: count", "Here is the prompt:", '"red" coat.', "I'd say ```", "one coat.\n")


def mangle(rng: random.Random) -> tuple[str, bool]:
    """A reply with SENTINEL all through its thought, with tags dropped, doubled, broken, nested or moved."""

    def tag(name: str, closing: bool) -> str:
        spelled = rng.choice([name, name, name, name.upper(), name.title()])
        if rng.random() < 0.1:
            at = rng.randrange(len(spelled))
            spelled = spelled[:at] + rng.choice(["\u200b", "\u200d", "\ufeff"]) + spelled[at:]
        left, right = rng.choice([("<", ">")] * 8 + [("&lt;", "&gt;"), ("＜", "＞"), ("< ", " >"), ("<", "")])
        slash = "/" if closing else ""
        return f"{left}{slash}{spelled}{right}" + rng.choice(["", "", "\n", " "])

    words = [
        "SENTINEL " + rng.choice(["so the fox", "Step 1: count", "Here is the prompt:", '"red" coat', "I'd say ```"])
    ]
    if rng.random() < 0.3:
        words.append(tag("answer", False) + "SENTINEL draft" + tag("answer", True) + " SENTINEL")
    if rng.random() < 0.2:
        words.append(tag("think", False) + " SENTINEL inner " + tag("think", True) + " SENTINEL")
    if rng.random() < 0.2:
        words.append(rng.choice(["write it in ", "the prompt goes between "]) + tag("answer", False) + " SENTINEL tags")
    thought = " ".join(words)
    # The thought is fenced on the side of the prompt by at least one tag of its own: without any, no reader can tell.
    open_think = rng.random() < 0.85
    close_think = rng.random() < 0.85 or not open_think
    parts = [rng.choice(["", "", "Rewrite: a fox\n", "```\n", "Sure!\n"])]
    parts += [tag("think", False)] * open_think + [thought] + [tag("think", True)] * close_think
    if close_think and rng.random() < 0.1:
        parts.append(tag("think", True))
    shape = rng.random()
    if shape < 0.6:
        parts += [tag("answer", False), PROMPT, tag("answer", True)]
    elif shape < 0.7:
        parts += [tag("answer", False), PROMPT]
    elif shape < 0.8:
        parts += [PROMPT, tag("answer", True)]
    elif shape < 0.9:
        parts.append(PROMPT)
    parts.append(rng.choice(["", "", "\n", "\nHope this helps!", tag("think", False) + "SENTINEL"]))
    text = "".join(parts)
    truncated = rng.random() < 0.3
    return (text[: rng.randrange(len(text) + 1)], True) if truncated else (text, False)


def test_no_thought_ever_leaks() -> None:
    rng = random.Random(20)
    found = 0
    for _ in range(6000):
        text, truncated = mangle(rng)
        parsed = parse_reply(text, truncated=truncated)
        assert (parsed.prompt is None) == (parsed.problem is not None)
        if parsed.prompt is not None:
            assert "SENTINEL" not in parsed.prompt, text
            found += 1
    assert found > 2500  # a parser that never answers would not leak either


def test_any_bytes_are_survived() -> None:
    rng = random.Random(3)
    pieces = [
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "<",
        ">",
        "/",
        "think",
        "```",
        '"',
        "'",
        "\n",
        "x",
        "\u200b",
        "：",
        "\0",
    ]
    for _ in range(4000):
        text = "".join(rng.choice(pieces) for _ in range(rng.randrange(14)))
        parsed = parse_reply(text, truncated=rng.random() < 0.5)
        assert (parsed.prompt is None) == (parsed.problem is not None)


@pytest.mark.parametrize(
    ("prompt", "kept"),
    [
        (
            "A fox. The light is even. The LIGHT is even.\n\nThe sky is clear.",
            "A fox. The light is even. The sky is clear.",
        ),
        ("A fox. Very calm. Very calm.", "A fox. Very calm. Very calm."),
        ("Tags, a fox, tags, a fox", "Tags, a fox, tags, a fox"),
        ("A sign says no entry! A sign says no entry!", "A sign says no entry! A sign says no entry!"),
        ("", ""),
        ("The light is even. " * 3, "The light is even."),
    ],
)
def test_sentences_that_are_said_again_are_dropped_unless_the_request_has_them(prompt: str, kept: str) -> None:
    assert drop_repeated_sentences(prompt, "a fox. a sign says no entry!") == kept


def test_a_reply_that_repeats_itself_is_read_without_that() -> None:
    reply = ChatReply("<think>x</think><answer>A red fox. The light is even. The light is even.</answer>")
    assert review("a red fox", reply, Rules()).prompt == "A red fox. The light is even."
