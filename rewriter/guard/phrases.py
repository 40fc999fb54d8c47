"""What language models say to people, by language: openings, thoughts, notes, apologies, answers.

Patterns are told apart by where they count: `opening` only at the start of a rewrite, `anywhere` in all of it. They
are matched against text without quotes, so that a sign may say what it likes.
"""

from __future__ import annotations

import re
from functools import cache

_EN_KINDS = r"(?:prompt|version|rewrite|description|caption|image|picture|result)\b"

_OPENING = {
    "en": (
        r"(?:sure|certainly|of course|absolutely|okay|ok|alright|hmm|wait|great|gladly|understood|got "
        r"it)\b\s*[,!.:—-]",
        r"(?:sure|certainly)\s+(?:thing|here)\b",
        rf"(?:here(?:'s|’s| is| are)|this is|below is) (?:the|your|a|an|my)\b[^.\n]{{0,40}}\b{_EN_KINDS}",
        rf"(?:re-?written|enhanced|improved|revised|optimi[sz]ed|final|new|positive) (?:image "
        rf")?{_EN_KINDS}\s*(?:[:\n]|is\b)",
        r"(?:prompt|answer|rewrite|repair|output|response|result|caption|system|user|assistant)\s*:",
        r"i(?:'m|’m| am) (?:sorry|unable|afraid|happy|glad)\b|sorry,|as an ai\b|apologies\b",
        r"let me\b|let(?:'|’)s (?:think|break|analy|start|see)|first(?:ly)?, (?:i|we|let)\b",
    ),
    "de": (
        r"(?:hier|das) ist (?:der|die|das|dein|ihr|eine?)\b[^.\n]{0,40}(?:prompt|version|fassung|beschreibung|bild)\b",
        r"(?:natürlich|gerne?|sicher|klar|selbstverständlich|okay|verstanden)\b\s*[,!.:]",
        r"(?:verbesserte|überarbeitete|neue|optimierte|erweiterte|umgeschriebene)[rs]? (?:bild)?(?:prompt"
        r"|beschreibung|version|fassung)\b",
        r"(?:es )?tut mir leid|entschuldig|leider kann ich|als ki\b",
    ),
    "fr": (
        r"voici (?:le|la|une?|votre|ton)\b[^.\n]{0,40}(?:prompt|version|description|image)\b",
        r"(?:bien sûr|certainement|d['’]accord|avec plaisir|volontiers|compris)\s*[,!.:]",
        r"(?:nouveau |nouvelle )?(?:prompt|version|description) (?:améliorée?|réécrite?|optimisée?|révisée?"
        r"|finale?)\b",
        r"(?:je suis )?désolée?\b|en tant qu['’]ia\b",
    ),
    "es": (
        r"aquí (?:está|tienes|tiene)\b|este es (?:el|tu)\b[^.\n]{0,30}(?:prompt|versión)",
        r"(?:claro|por supuesto|desde luego|con gusto|entendido|vale)(?: que sí)?\s*[,!.:]",
        r"(?:nuevo |nueva )?(?:prompt|versión|descripción) (?:mejorad|reescrit|optimizad|revisad|final)",
        r"lo siento\b|como (?:una )?ia\b|disculp",
    ),
    "it": (
        r"ecco (?:il|la|una?|un['’]|l['’])[^.\n]{0,40}(?:prompt|versione|descrizione|immagine)\b",
        r"(?:certo|certamente|volentieri|ovviamente|d['’]accordo|va bene)\s*[,!.:]",
        r"(?:nuovo |nuova )?(?:prompt|versione|descrizione) (?:migliorat|riscritt|ottimizzat|rivist|final)",
        r"mi dispiace\b|come ia\b|scusa",
    ),
    "pt": (
        r"aqui (?:está|vai|tem|tens)\b|este é o\b[^.\n]{0,30}prompt",
        r"(?:claro|com certeza|certamente|com prazer|entendido|ok)\s*[,!.:]",
        r"(?:novo |nova )?(?:prompt|versão|descrição) (?:melhorad|reescrit|otimizad|revisad|final)",
        r"desculpe?\b|sinto muito\b|lamento\b|como (?:uma )?ia\b",
    ),
    "nl": (
        r"(?:hier|dit) is (?:de|het|een|je|uw)\b[^.\n]{0,40}(?:prompt|versie|beschrijving|afbeelding)\b",
        r"(?:natuurlijk|zeker|graag|prima|begrepen)\s*[,!.:]",
        r"(?:verbeterde|herschreven|nieuwe|geoptimaliseerde) (?:prompt|beschrijving|versie)\b",
        r"het spijt me|sorry\b|helaas kan ik|als ai\b",
    ),
    "ru": (
        r"вот (?:ваш|твой|перепис|улучш|обновл|новый|новая|промпт|описание|изображение)",
        r"(?:конечно|разумеется|хорошо|понял[а]?|безусловно|с удовольствием)\s*[,!.:]",
        r"(?:улучшенн|переписанн|обновлённ|обновленн|новы|финальн)\w+ (?:промпт|описание|вариант|версия)",
        r"извините|простите|к сожалению, я|как ии\b|прошу прощения",
    ),
    "zh": (
        r"(?:好的|当然|没问题|可以的|明白了?|收到)[，,！!。：:]",
        r"(?:以下|下面|这)是|(?:改写|优化|润色|修改|扩写|完善|增强)(?:后|过)?的|(?:最终|新的?)?提示词\s*[：:]",
        r"抱歉|对不起|很遗憾|作为(?:一个|一名)?(?:AI|人工智能|语言模型)",
    ),
    "ja": (
        r"(?:はい|承知(?:いた)?しました|もちろん(?:です)?|かしこまりました|わかりました|了解)[、。！!,.]",
        r"以下[はがの]|こちら[がは]|(?:書き直|改善|修正|強化|最適化|リライト)(?:した|し|された|後の?)"
        r"|(?:最終)?プロンプト\s*[：:]",
        r"申し訳|すみません|ごめんなさい|AIとして",
    ),
    "ko": (
        r"(?:네|물론(?:입니다|이죠)?|알겠습니다|좋습니다|그럼요)\s*[,.!:]",
        r"다음은|아래는|여기|(?:다시 (?:작성|쓴)|개선|수정|향상|최적화)(?:된|한)|(?:최종 )?프롬프트\s*[:：]",
        r"죄송|미안|유감|인공지능으로서",
    ),
    "ar": (
        r"بالتأكيد|إليك|بالطبع|حسنا[ً]?[،,!]|تفضل|هذا هو (?:النص|الوصف)",
        r"(?:النص|الوصف|المطالبة|الموجه) (?:المحسن|المعاد|الجديد|النهائي)",
        r"عذرا|آسف|أعتذر|معذرة|بصفتي",
    ),
    "hi": (
        r"(?:ज़रूर|जरूर|बिल्कुल|ठीक है|अवश्य|हाँ)\s*[,!।.:]",
        r"यह रहा|यहाँ (?:है|आपका)|(?:बेहतर|नया|संशोधित|अंतिम) (?:प्रॉम्प्ट|विवरण)|प्रॉम्प्ट\s*[:：]",
        r"क्षमा|माफ़|माफ|खेद|एक एआई",
    ),
}

_ANYWHERE = {
    "en": (
        r"(?:^|\n|[.!?]\s)\s*step \d+\s*[:.)]",
        r"\bthe user(?:'s|’s)? (?:wants?|ask|request|sa(?:ys|id)|needs?\b|prompt|mention|did|is ask)",
        r"\b(?:we|i)(?: need to| should| must| have to| will|'ll|’ll) "
        r"(?:make sure|ensure|keep|include|mention|write|describe|avoid|rewrite|preserve|add|think|list|start)",
        r"\bi(?:'ve|’ve| have)? (?:kept|preserved|added|made sure|created|rewritten|rewrote|changed|included"
        r"|expanded|retained)\b",
        r"\bi (?:can(?:'t|’t|not)|am (?:not able|unable)|could not|do not|don['’]t) (?:to )?"
        r"(?:help|draw|create|generate|produce|make|assist|fulfil|provide|see|display)",
        r"\bi(?:'d|’d| would) be (?:happy|glad)|\bhappy to help\b|\blanguage model\b|\bas an ai\b",
        r"\blet me know\b|\bfeel free to\b|\bi hope (?:this|you|that)\b|\bwould you like\b|\bcould you (?:please "
        r")?tell me\b",
        r"\b(?:that(?:'s|’s| is)|what) (?:a|an) (?:great|good|nice|wonderful|lovely|interesting|fun) (?:idea|prompt"
        r"|request)\b",
        r"\b(?:image|picture) you (?:asked|requested|wanted)\b|\byour (?:request|prompt|description)\b",
        r"\bchain of thought\b|\bkey points? (?:are|:)|\bmy (?:rewrite|prompt|answer) (?:is|will|should)",
        r"(?:^|\n|[.!?]\s)\s*(?:note|explanation|reasoning|thought|thinking|changes(?: made)?)\s*:",
        r"\b(?:rewritten|enhanced|original|user|final|improved) (?:prompt|request)\b|\btext-to-image model\b",
        r"\brewrite this\b|\breply in the form\b|\bimage model\b|\bnothing else\.?\Z|\bplain running text\b",
    ),
    "de": (
        r"\bder (?:be)?nutzer (?:will|möchte|wünscht|fragt|bittet)",
        r"\bich (?:muss|sollte|werde|habe|kann|soll|möchte|würde|behalte|füge|beschreibe|überlege)\b",
        r"\b(?:hinweis|anmerkung|erklärung|begründung)\s*:",
        r"\bsag(?:en sie)? (?:mir|bescheid)\b|\blass mich wissen\b|\b(?:tolle|gute|schöne|super) idee\b",
        r"\b(?:möchtest|möchten|willst|wünschst) (?:du|sie)\b|\bsprachmodell\b",
    ),
    "fr": (
        r"l['’]utilisateur (?:veut|souhaite|demande|voudrait)",
        r"\bj(?:e (?:dois|vais|ne (?:peux|suis)|peux|suis (?:désolé|un)|devrais|garde)\b|['’]ai (?:conservé|gardé"
        r"|ajouté|créé|réécrit|fait))",
        r"\b(?:remarque|explication|raisonnement)\s*:|(?:^|\n)\s*note\s*:",
        r"n['’]hésite[sz]? pas\b|dites?-moi\b|\bexcellente idée\b|\b(?:bonne|belle|super) idée\b",
        r"\b(?:souhaitez|voulez|aimeriez)[- ]vous\b|modèle de langage",
    ),
    "es": (
        r"el usuario (?:quiere|pide|desea|solicita)",
        r"\b(?:debo|voy a|tengo que|necesito) (?:mantener|pensar|conservar|incluir|escribir|describir|reescribir"
        r"|asegurar|añadir)",
        r"\bhe (?:conservado|mantenido|añadido|creado|reescrito|incluido)\b|\b(?:no )?puedo (?:ayudar|crear|generar"
        r"|dibujar|describir|hacer)",
        r"(?:^|\n|[.!?]\s)\s*(?:nota|explicación|razonamiento)\s*:",
        r"\bdime si\b|\bavísame\b|\b(?:buena|gran|excelente) idea\b|\bte gustaría\b|modelo de lenguaje",
    ),
    "it": (
        r"l['’]utente (?:vuole|chiede|desidera|vorrebbe)",
        r"\b(?:devo|dovrei|voglio) (?:mantenere|pensare|conservare|includere|scrivere|descrivere|riscrivere"
        r"|aggiungere)",
        r"\bho (?:mantenuto|conservato|aggiunto|creato|riscritto|incluso)\b|\b(?:non )?posso (?:aiutar|creare"
        r"|generare|disegnare|descrivere)",
        r"(?:^|\n|[.!?]\s)\s*(?:nota|spiegazione|ragionamento)\s*:",
        r"\bfammi sapere\b|\b(?:bella|ottima|buona) idea\b|\b(?:preferisci|preferisce|vorresti)\b|modello linguistico",
    ),
    "pt": (
        r"o (?:usuário|utilizador) (?:quer|pede|deseja|solicita)",
        r"\b(?:devo|vou|preciso|tenho de|tenho que) (?:de )?(?:manter|pensar|conservar|incluir|escrever|descrever"
        r"|reescrever|adicionar)",
        r"\b(?:mantive|acrescentei|adicionei|reescrevi|incluí)\b|\b(?:não )?posso (?:ajudar|criar|gerar|desenhar"
        r"|descrever)",
        r"(?:^|\n|[.!?]\s)\s*(?:nota|observação|explicação)\s*:",
        r"\bdiga-me\b|\bme avise\b|\b(?:ótima|boa|excelente) ideia\b|\bvocê (?:prefere|gostaria|quer)\b|modelo de "
        r"linguagem",
    ),
    "nl": (
        r"de gebruiker (?:wil|vraagt|wenst)",
        r"\bik (?:moet|zal|heb|kan|wil|ga|houd|voeg)\b",
        r"(?:^|\n|[.!?]\s)\s*(?:opmerking|uitleg|toelichting)\s*:",
        r"\blaat (?:het )?me weten\b|\b(?:leuk|goed|geweldig) idee\b|\bwil je\b|taalmodel",
    ),
    "ru": (
        r"пользовател[ья] (?:хочет|просит|желает|нужн)",
        r"\b(?:мне|нам) (?:нужно|надо|следует)\b|\bя (?:должен|должна|не могу|могу|подумаю|сохранил|добавил|создал"
        r"|переписал|буду)",
        r"(?:^|\n|[.!?]\s)\s*(?:примечание|пояснение|объяснение|замечание)\s*:",
        r"дайте знать|сообщите мне|\b(?:отличная|хорошая|прекрасная|замечательная) идея\b|\bвы (?:хотите"
        r"|предпочитаете)\b|языковая модель",
    ),
    "zh": (
        r"用户(?:想要|希望|要求|需要|说)|原(?:始)?提示词|语言模型",
        r"我(?:需要|应该|必须|会先|来分析|先|保留|已|将|无法|不能|可以为|添加|想一下)",
        r"(?:^|\n|。)\s*(?:注|备注|说明|解释)\s*[：:]",
        r"希望您?(?:喜欢|满意)|请告诉我|如需修改|请问|好主意|(?:您|你)想要什么",
    ),
    "ja": (
        r"ユーザー(?:は|が|の(?:要求|希望))|言語モデル",
        r"(?:残す|保つ|維持する|考える|書く)(?:必要がある|べき)|考えましょう|考えてみ|(?:画像|絵)を(?:生成"
        r"|作成)(?:できません|することはでき|しました)",
        r"(?:^|\n|。)\s*(?:注|注意|備考|説明)\s*[：:]",
        r"お知らせください|教えてください|お手伝い|アイデアですね|いかがですか|よいですか|ご希望",
    ),
    "ko": (
        r"사용자(?:는|가|의 요청)|언어 모델",
        r"(?:유지|포함|작성|설명|생각)해야 (?:한다|합니다)|생각해 보|(?:이미지|그림)를? (?:생성|만들|그릴)\S* 수 "
        r"(?:없|있)|유지했습니다|추가했습니다",
        r"(?:^|\n|[.]\s)\s*(?:참고|주의|설명|비고)\s*[:：]",
        r"알려 ?주세요|말씀해 ?주세요|도와드릴|좋은 생각|원하시나요|원하십니까",
    ),
    "ar": (
        r"المستخدم (?:يريد|يطلب|يرغب)|نموذج لغوي",
        r"يجب أن (?:أحافظ|أكتب|أضيف|أذكر|أفكر)|لا (?:أستطيع|يمكنني)|(?:^|\n|[.]\s)\s*حافظت على",
        r"(?:^|\n|[.]\s)\s*(?:ملاحظة|توضيح|شرح)\s*:",
        r"أخبرني|فكرة (?:رائعة|جيدة|جميلة)|هل تريد|يمكنني (?:وصف|مساعدت)",
    ),
    "hi": (
        r"(?:उपयोगकर्ता|यूज़र) (?:एक |को )?|भाषा मॉडल",
        r"मुझे \S+(?: \S+)? (?:रखने|लिखना|सोचना|जोड़ना|रखना)|मैं \S*(?: \S+){0,3} (?:नहीं कर|नहीं बना|कर सकता|बना सकता)|मैंने ",
        r"(?:^|\n|।)\s*(?:नोट|टिप्पणी|ध्यान दें|व्याख्या)\s*[:：]",
        r"तो बताइए|मुझे बताएँ|अच्छा विचार|आप कौन|आप क्या|मदद नहीं",
    ),
}  # fmt: skip

LANGUAGES = tuple(_OPENING)


@cache
def opening(language: str) -> re.Pattern[str]:
    """How talk begins in one of `LANGUAGES`."""
    return re.compile(rf"\A\W*(?:{'|'.join(_OPENING[language])})", re.IGNORECASE)


@cache
def anywhere(language: str) -> re.Pattern[str]:
    """Talk in one of `LANGUAGES`, wherever it stands."""
    return re.compile("|".join(_ANYWHERE[language]), re.IGNORECASE)
