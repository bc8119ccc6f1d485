"""The wordings around a prompt: labels, introductions, remarks, questions back.

Each pattern needs a word that speaks of the answer itself ("prompt", "version") or of the model
("I added"), because prompts contain colons, quotes, notes and questions, too.
"""

from __future__ import annotations

import re

_ADJECTIVE = (
    "re-?written|enhanced|improved|revised|refined|expanded|extended|detailed|final|finished|new|"
    "updated|optimi[sz]ed|better|positive|image|picture|photo|art|ai|text-to-image|t2i|output|"
    "resulting|upgraded|polished|enriched|vivid|full|complete|alternative|alternate|suggested|"
    "proposed|generated|generation|stable|diffusion|midjourney|flux|sdxl|english|main|modified|"
    "reworked|reformulated|reworded|rephrased|transformed|converted|elaborated?|augmented|creative|"
    "short|long|longer|shorter|more|descriptive|one-line|single-line|requested|visual|corrected|"
    "verbesserter?|überarbeiteter?|umgeschriebener?|neuer?|optimierter?|erweiterter?|finaler?"
)
_AFTER = (
    r"mejorado|reescrito|final|nuevo|optimizado|améliorée?|réécrite?|enrichi|optimisé|détaillée?|"
    r"migliorato|riscritto|melhorado|aprimorado|otimizado"
)
_PROMPT = r"prompts?|промп?т|re-?writes?|re-?writing|recaption"
_ANSWER = r"answer|output|result|response|antwort|réponse|respuesta"
_TEXT = r"version|variation|variant|description|caption|text|scene"
_NUMBERED = (
    r"(?:option|version|variant|variation|alternative|prompt|choice)\s*(?:#|"
    r"no\.?\s*)?(?:\d{1,2}|[A-C])"
)
_RUSSIAN = r"(?:(?:улучшенный|переписанный|новый|итоговый|финальный)\s+)"
_CHINESE = (
    r"(?:改写|优化|優化|改进|改進|增强|重写|润色|最终|完整|英文|中文|图像|绘画|生成|后|後|的|版|新|正向|正面|这是|以下是|下面是|您|你|为|经|过)*"
    r"(?:提示词|提示詞|提示语|Prompt)(?:如下)?"
)
_JAPANESE = (
    r"(?:改善|書き換え|強化|最終|修正|詳細|新しい|された|こちらが|られた|後|の|た|版)*"
    r"プロンプト(?:です|は以下の通りです|例)?"
)
_KOREAN = (
    r"(?:개선된|다시\s?작성된|향상된|최종|새로운|수정된|\s)*프롬프트(?:입니다|는 다음과 같습니다)?"
)
_LABEL_WORDS = (
    rf"(?:(?:the|your|my|a|an)\s+)?(?:(?:{_ADJECTIVE})\s+)*(?:{_PROMPT}|"
    rf"{_ANSWER})(?:\s+(?:{_AFTER}))*"
    rf"|(?:(?:the|your|my)\s+)?(?:(?:{_ADJECTIVE})\s+)+(?:{_TEXT})"
    rf"|(?:re-?written|enhanced|improved|revised|refined|positive)"
    rf"|{_NUMBERED}|{_RUSSIAN}?промп?т|{_CHINESE}|{_JAPANESE}|{_KOREAN}"
)
_DECORATION = r"[ \t]*(?:[#>]+[ \t]*)?(?:[-\u2022][ \t]+)?[*_`]{0,3}[ \t]*"
_PREDICATE = (
    r"(?:\s*\([^)\n]{0,60}\))?(?:\s+(?:is|would\s+be|could\s+be|reads|(?:is\s+)?as\s+follows|"
    r"below|here))?"
)
LABEL = re.compile(
    rf"^{_DECORATION}(?P<label>{_LABEL_WORDS}){_PREDICATE}"
    r"(?:[ \t]*[*_`]{0,3}[ \t]*(?:[:\uff1a=]|->|=>)[ \t]*(?:[*_]{2,3}(?=\s|$))?|"
    r"[*_`]{2,3}[ \t]*[:\uff1a]?[ \t]*$)",
    re.IGNORECASE | re.MULTILINE,
)
"""A label of the prompt at the begin of a line: "**Rewritten prompt:**"."""
HEADING_LABEL = re.compile(
    rf"^[ \t]*#{{1,6}}[ \t]*[*_`]*(?P<label>{_LABEL_WORDS})[*_` \t]*[:\uff1a]?[*_` \t]*$",
    re.IGNORECASE | re.MULTILINE,
)
SECOND = re.compile(r"\b(?:alternative|alternate|option|variant|variation|short|shorter)\b", re.I)
"""A label of another prompt, if a prompt stands before it."""
OTHER_LABEL = re.compile(
    rf"^{_DECORATION}(?:explanations?|reasoning|rationale|notes?|(?:key\s+)?(?:changes|"
    rf"improvements|"
    r"additions|enhancements|elements)(?:\s+made)?|why\s+(?:this|it)\s+works|analysis|thinking|"
    r"thought\s+process|thoughts|plan|breakdown|comments?|tips?|(?:the\s+)?original(?:\s+prompt)?|"
    r"(?:user\s+)?input|naive(?:\s+prompt)?|task|what\s+i\s+(?:changed|added)|justification|"
    r"summary\s+of\s+changes|steps?|erklärung|explicación|explication|说明|解释|备注)"
    r"[ \t]*[*_`]{0,3}[ \t]*[:\uff1a]",
    re.IGNORECASE | re.MULTILINE,
)
"""A label of a section that is not the prompt."""
NEGATIVE = re.compile(
    r"(?:(?<=[\s.,;|)])|^)[ \t]*(?:[#>]+[ \t]*)?[*_`(\[]{0,3}(?:(?:suggested|recommended|"
    r"optional)\s+)?(?:negative[ _-]?prompts?|"
    r"负面提示词|反向提示词|负向提示词|負面提示詞|ネガティブプロンプト|부정\s?프롬프트|негативный\s+промп?т|"
    r"prompt\s+(?:negativo|négatif)|"
    r"negativer?\s+prompt)(?:\s*\([^)\n]{0,40}\))?\s*[*_`]{0,3}\s*[:\uff1a=]\s*[*_`]{0,3}"
    r"|^[ \t]*[*_`]{0,3}negative[*_` \t]*[:\uff1a][*_` \t]*",
    re.IGNORECASE | re.MULTILINE,
)
_META = (
    r"prompts?|version|re-?writ(?:e|es|ing|ten)|description|caption|request|result|"
    r"variation|options?|"
    r"image\s+generation|text-to-image|suggestion|take\s+on|idea|промп?т|версия|описание|versión|"
    r"descripción|versão|descrição|versione|Beschreibung|提示|描述|版本|改写|プロンプト|프롬프트|설명"
)
_OPENING = (
    r"here(?:['\u2019]?s|\s+is|\s+are|\s+comes)|below\s+(?:is|are)|the\s+following\s+is|"
    r"following\s+is|"
    r"this\s+is\s+(?:the|your|my|a|an)|that['\u2019]?s|i(?:['\u2019](?:ve|d|ll)|"
    r"\s+(?:have|would|will|can|could|just|"
    r"also|\w+ed|suggest|recommend|propose|took|made|wrote|rewrote))|let\s+me|let['\u2019]?s|"
    r"based\s+on\s+(?:your|the)|as\s+(?:you\s+)?(?:requested|asked)|rewriting\s+(?:the|your)|"
    r"voici|aquí|aqui|hier\s+ist|ecco|вот|以下|这是|下面|這是|こちら|다음은|여기"
)
_BETWEEN = (
    r"(?:\"[^\"\n]*\"|\u201c[^\u201d\n]*\u201d|\u00ab[^\u00bb\n]*\u00bb|'[^'\n]{1,80}'(?!\w)|"
    r"[^\n:\uff1a\"\u201c\u00ab]){0,220}?"
)
INTRODUCTION = re.compile(
    rf"(?:{_OPENING})(?:(?![A-Za-z])|(?<!\w)|"
    rf"\b){_BETWEEN}(?<![A-Za-z])(?:{_META})(?![A-Za-z]){_BETWEEN}"
    r"(?:[*_]{0,3}[:\uff1a][*_]{0,3}(?!//)|[.!](?=\s|$)|$)",
    re.IGNORECASE | re.MULTILINE,
)
"""A sentence that introduces the prompt: "Here is the rewritten prompt:"."""
INTERJECTION = re.compile(
    r"(?:sure(?:\s+thing)?|certainly|of\s+course|absolutely|okay|ok|alright|all\s+right|got\s+it|"
    r"great(?:\s+(?:choice|idea|question|prompt))?|perfect|yes|no\s+problem|understood|gladly|"
    r"with\s+pleasure|happy\s+to\s+help|"
    r"i['\u2019]?d\s+be\s+happy\s+to(?:\s+help)?(?:\s+you)?(?:\s+with\s+that)?|"
    r"definitely|thanks|thank\s+you(?:\s+for[^.!\n]{0,60})?|hello|hi(?:\s+there)?|"
    r"sounds\s+good|here\s+(?:you\s+go|it\s+is|we\s+go)|claro(?:\s+que\s+sí)?|por\s+supuesto|"
    r"bien\s+sûr|avec\s+plaisir|natürlich|gerne?|klar|selbstverständlich|certo|конечно|хорошо|"
    r"好的|当然(?:可以)?|當然|はい|もちろん(?:です)?|물론(?:입니다|이죠)?|네)"
    r"\s*(?P<end>[!.,:;\uff0c\u3002\uff01\uff1a\u3001\u2014\u2013-]+|\n)\s*",
    re.IGNORECASE,
)
GREETING = re.compile(r"(?:yes|perfect|great|hello|hi|thanks|ok|thank\s+you|klar|gern)\W*$", re.I)
"""An interjection that a prompt may begin with, too."""
THOUGHT = re.compile(
    r"(?:okay|ok|alright|so|hmm+|well|first|let\s+me\s+think|let['\u2019]s\s+think|"
    r"we\s+(?:need|have|should)|"
    r"the\s+user|user\s+wants|i\s+(?:need|should|must|will|want)|thinking|analysis|step\s+\d)\b"
    r"(?=.*(?:the\s+user|rewrit|the\s+prompt|let\s+me|i\s+should|i\s+need|we\s+need|we\s+should|"
    r"user\s+wants|instruction))",
    re.IGNORECASE | re.DOTALL,
)
"""A paragraph of thoughts without tags."""
REMARK = re.compile(
    r"(?:(?:please\s+)?(?:let|tell)\s+me\s+know|feel\s+free|i\s+hope|hope\s+(?:this|that|it|you)|"
    r"i(?:['\u2019]ve|\s+have)?\s+(?:also\s+)?(?:added|kept|included|enhanced|expanded|"
    r"incorporated|used|"
    r"chosen|chose|made|tried|focused|changed|rewrote|rewritten|emphasi[sz]ed|specified|preserved|"
    r"maintained|aimed|replaced|described|retained|introduced|removed|set|placed|ensured)|"
    r"would\s+you\s+(?:like|prefer)|do\s+you\s+(?:want|need|like)\s+(?:me|a|an|any|to|"
    r"another)|want\s+me\s+to|"
    r"shall\s+i|should\s+i|if\s+you(?:['\u2019]d|\s+would)?\s+(?:like|want|need|prefer|"
    r"have)\b|is\s+there\s+anything|"
    r"this\s+(?:\w+\s+)?(?:prompt|version|rewrite|description|revision|caption)\s+(?:\w+s|"
    r"aims|will|should|\w+ed)\b|"
    r"the\s+(?:rewritten|enhanced|revised|improved|added|new|original|expanded|updated)\s+"
    r"(?:prompt|version|details?|elements?|description|lighting|style)\s+(?:\w+s|aims|"
    r"will|\w+ed|is|are)\b|"
    r"you\s+can\s+(?:also\s+|further\s+|easily\s+)?(?:adjust|use|modify|change|add|copy|"
    r"paste|replace|try|"
    r"tweak|customi[sz]e)|these\s+(?:details|additions|changes|elements|enhancements)|"
    r"happy\s+(?:to|generating|creating|prompting)|good\s+luck|enjoy\s*!|"
    r"[(\[]?(?:word\s+count|words|tokens|characters)\s*[:=]?\s*~?\d+|"
    r"[(\[]~?\d+\s+(?:words|tokens|characters)|"
    r"notes?\s*:[^\n]{0,200}?\b(?:prompt|rewrit\w*|original|i|you|your|subject|added|"
    r"version|kept|model)\b|"
    r"explanation\s*:|changes(?:\s+made)?\s*:|key\s+(?:changes|improvements|additions)\s*:|"
    r"espero\s+que|avísame|si\s+(?:quieres|necesitas|deseas)|he\s+añadido|"
    r"n['\u2019]hésite|j['\u2019]ai\s+(?:ajouté|gardé)|"
    r"faites-moi|dites-moi|lass(?:en\s+sie)?\s+(?:mich|es\s+mich)|ich\s+habe|"
    r"sag(?:en\s+sie)?\s+(?:mir|bescheid)|"
    r"wenn\s+(?:du|sie)\s|möchte(?:st|n)\s+(?:du|sie)|дайте\s+знать|я\s+добавил|"
    r"если\s+(?:хотите|вам)|"
    r"хотите|希望(?:这|您|你|能|对)|如果(?:您|你)|如需|我(?:添加|加入|增加|保留)|说明[:\uff1a]|需要我|ご希望|お気軽|필요하시|원하시)",
    re.IGNORECASE,
)
"""The begin of a sentence after the prompt that speaks of it or to the reader."""
_ASKS = (
    r"(?:(?:could|can|would|will)\s+you\s+(?:please\s+)?(?:\w+\s+)?(?:provide|share|"
    r"clarify|specify|tell|give|send|"
    r"describe|elaborate|confirm)|(?:what|which|how)\s+(?:\w+\s+){0,4}(?:would\s+you|"
    r"do\s+you|should\s+i|are\s+you)|"
    r"(?:do|would|did|are|have)\s+you\b|(?:should|shall|may|can)\s+i\b|"
    r"(?:what|which)\s+(?:kind|type|style|sort)\s+of\b)"
)
QUESTION_BACK = re.compile(rf"(?:^|[.!?,]\s+){_ASKS}[^?]*\?", re.IGNORECASE)
WAITS = re.compile(
    r"(?:\w+[,!.]?\s+){0,4}?(?:please\s+(?:provide|share|give|send|specify|clarify|enter|"
    r"tell|describe\s+(?:what|the))\b|"
    r"i(?:['\u2019]m|\s+am)\s+(?:ready|here\s+to\s+help|waiting|happy\s+to|not\s+sure|"
    r"unsure|an?\s+ai)\b|i\s+need\s+(?:more|the|a|some)\b|"
    r"i\s+(?:don['\u2019]t|do\s+not)\s+(?:see|understand|have)\b|no\s+(?:prompt|text|"
    r"input)\s+(?:was\s+|is\s+)?(?:provided|given|found)|"
    r"(?:it\s+)?(?:looks|seems)\s+like\s+(?:you|your|there)|you\s+(?:haven['\u2019]t|"
    r"have\s+not|didn['\u2019]t|did\s+not))",
    re.IGNORECASE,
)
PLACEHOLDER = re.compile(
    r"[\[<({]?\s*(?:your|the|insert|a|an)?\s*(?:rewritten|enhanced|improved|naive|final|"
    r"new)?\s*prompt"
    r"(?:\s+(?:here|goes\s+here|text))?\s*[\]>)}]?[.:]?|n/?a|none|null|undefined|\[\.\.\.\]",
    re.IGNORECASE,
)
