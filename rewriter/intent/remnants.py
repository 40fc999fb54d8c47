"""What a language model says around a prompt: instructions, apologies, tags, chain of thought."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rewriter.intent.base import Case, Finding


def _any(*patterns: str) -> str:
    return "(?:" + "|".join(patterns) + ")"


_TAGS = re.compile(
    _any(
        r"</?\s*(?:think\w*|thought|answer|reasoning)\b",
        r"<\|\w+\|>|\[/?INST\]|</?s>",
        r"</?(?:user_prompt|last_rewrite|found)\b",
    ),
    re.IGNORECASE,
)
_OPENINGS = re.compile(
    r"\A\W*"
    + _any(
        r"(?:sure|certainly|of course|absolutely|okay|ok|alright|hmm|wait)\b\s*[,!.]",
        r"(?:sure|certainly)\s+(?:thing|here)\b",
        r"here(?:'s|’s| is| are) (?:the|your|a|an|my)\b[^.\n]{0,40}\b(?:prompt|version|rewrite|description)",
        r"(?:re-?written|enhanced|improved|revised|optimi[sz]ed|final|new) (?:image )?(?:prompt|version|description)\b",
        r"(?:prompt|answer|rewrite|repair)\s*:",
        r"i(?:'m|’m| am) sorry\b|sorry,|i (?:can(?:'t|’t|not)|am unable to)\b|as an ai\b",
        r"let me\b|let(?:'|’)s (?:think|break|analy|start)|first, (?:i|we|let)\b",
        r"好的[，,]|以下是|当然[，,！!]|改写后|优化后|提示词\s*[：:]|抱歉",
        r"(?:はい|承知しました|もちろん)[、。]|以下[はが]|書き直し|申し訳",
        r"hier ist (?:der|die|das)\b[^.\n]{0,40}(?:prompt|version|fassung|beschreibung)|natürlich[,!]|gerne[,!]",
        r"voici (?:le|la|une?|votre)\b[^.\n]{0,40}(?:prompt|version|description)|bien sûr[,!]",
        r"aquí (?:está|tienes)\b|claro[,!]|por supuesto[,!]",
        r"вот (?:перепис|улучш|ваш|промпт)|конечно[,!]|извините",
        r"بالتأكيد|إليك|بالطبع|عذرا",
    ),
    re.IGNORECASE,
)
_ANYWHERE = re.compile(
    _any(
        r"(?:^|\n|[.!?]\s)\s*step \d+\s*[:.)]",
        r"\bthe user(?:'s|’s)? (?:wants?|ask|request|sa(?:ys|id)|needs?\b|prompt|mention|did|is ask)",
        r"\b(?:we|i)(?: need to| should| must| have to| will|'ll|’ll) "
        r"(?:make sure|ensure|keep|include|mention|write|describe|avoid|rewrite|preserve|add|think)",
        r"\bchain of thought\b|\bkey points? (?:are|:)|\bmy (?:rewrite|prompt|answer) (?:is|will|should)",
        r"(?:^|\n)\s*(?:note|explanation|reasoning|thought|changes(?: made)?)\s*:",
        r"\b(?:rewritten|enhanced|original|user) prompt\b",
        r"用户(?:想要|希望|要求|需要|说)|原提示词",
        r"ユーザー(?:は|が|の(?:要求|希望))",
        r"\bder (?:be)?nutzer (?:will|möchte|wünscht)",
        r"l['’]utilisateur (?:veut|souhaite|demande)",
        r"el usuario (?:quiere|pide|desea)",
        r"пользователь (?:хочет|просит)",
        r"المستخدم يريد",
    ),
    re.IGNORECASE,
)
_JSON = re.compile(r"\A\s*[\[{]\s*\"?\w*(?:prompt|text|answer|caption)\w*\"?\s*:", re.IGNORECASE)


def remnants(case: Case) -> Iterator[Finding]:
    """Instructions, apologies, tags and chain of thought where a description should be; the user's own are excused."""
    known = case.original.text.casefold()
    text, plain = case.rewrite.text, case.rewrite.plain
    for pattern, where in ((_TAGS, text), (_OPENINGS, plain), (_ANYWHERE, plain), (_JSON, text)):
        for match in pattern.finditer(where):
            said = match[0].strip()
            if said.casefold() not in known:
                message = f"The rewrite holds {said!r}, which is not a description of the picture."
                yield Finding("remnants", message, match[0], "rewrite", match.start(), match.end())
                break
