"""Recognise the redirects of Wikipedia among the sentences of WikiANN, and so of PAN-X.

WikiANN (Pan et al. 2017) has sentences that are a redirect: the keyword, without its ``#``, and the name of the other
page as an entity, such as ``YÖNLENDİRME Ayvalı , Vezirköprü``. They are 21 % of the Turkish sentences of PAN-X, 5 % of
the German and none of the English ones.
"""

from xner.data.characters import fold_case
from xner.data.sources import Sentence

KEYWORDS = {
    "af": "AANSTUUR",
    "ar": "تحويل",
    "bg": "пренасочване виж",
    "de": "WEITERLEITUNG",
    "el": "ΑΝΑΚΑΤΕΥΘΥΝΣΗ",
    "es": "REDIRECCIÓN REDIRECCION",
    "et": "suuna",
    "eu": "BIRZUZENDU",
    "fa": "تغییرمسیر",
    "fi": "OHJAUS UUDELLEENOHJAUS",
    "fr": "REDIRECTION",
    "he": "הפניה",
    "hi": "पुनर्प्रेषित अनुप्रेषित",
    "hu": "ÁTIRÁNYÍTÁS",
    "id": "ALIH",
    "it": "RINVIA RINVIO RIMANDO",
    "ja": "転送 リダイレクト",
    "jv": "ALIH",
    "ka": "გადამისამართება",
    "kk": "АЙДАУ",
    "ko": "넘겨주기",
    "ml": "തിരിച്ചുവിടുക തിരിച്ചുവിടൽ",
    "mr": "पुनर्निर्देशन पुर्ननिर्देशन",
    "ms": "LENCONG",
    "nl": "DOORVERWIJZING",
    "pt": "REDIRECIONAMENTO",
    "ru": "перенаправление перенапр",
    "ta": "வழிமாற்று",
    "te": "దారిమార్పు",
    "th": "เปลี่ยนทาง",
    "tr": "YÖNLENDİRME YÖNLENDİR",
    "ur": "رجوعمکرر",
    "vi": "đổi",
    "zh": "重定向 重新導向",
}
"""The keywords of MediaWiki (``redirect`` in its ``languages/messages``) in the languages of PAN-X that have their own,
without underscores; ``REDIRECT`` is one in every language."""

_KEYWORDS = {
    language: frozenset(map(fold_case, [*keywords.split(), "REDIRECT"])) for language, keywords in KEYWORDS.items()
}
_ELSEWHERE = frozenset({fold_case("REDIRECT")})


def is_redirect(sentence: Sentence, language: str) -> bool:
    """Return whether a sentence is a redirect.

    It is one if it begins, outside an entity, with a keyword of its language in any case, with or without ``#``, and an
    entity follows at once or after a colon. The keyword may be several words, since the words of Chinese, Japanese and
    Thai PAN-X are single characters.

    >>> is_redirect(Sentence(["YÖNLENDİRME", "Ayvalı"], ["O", "B-LOC"]), "tr")
    True
    >>> is_redirect(Sentence(["Yönlendirme", "kaldırıldı"], ["O", "O"]), "tr")
    False
    """
    keywords = _KEYWORDS.get(language, _ELSEWHERE)
    text = ""
    for index, (word, tag) in enumerate(zip(*sentence, strict=True), start=1):
        text = (text + fold_case(word).replace("_", "")).lstrip("#＃")
        if tag != "O" or not any(keyword.startswith(text) for keyword in keywords):
            return False
        if text in keywords:
            following = (
                sentence.tags[index + 1 :] if sentence.words[index : index + 1] == [":"] else sentence.tags[index:]
            )
            if following[:1] not in ([], ["O"]):
                return True
    return False
