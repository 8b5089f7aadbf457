"""Turkish case suffixes, whose form depends on vowel harmony, voicing and buffer letters."""

from types import MappingProxyType

from tests.make_sample.names import listed

VOWELS = "aıoueiöü"
VOICELESS = "çfhkpsşt"

SUFFIXES = MappingProxyType(
    {"loc": "DA", "abl": "DAn", "dat": "(y)A", "acc": "(y)I", "gen": "(n)In", "ins": "(y)lA", "cop": "DIr"}
)
"""The cases that a template may use. ``A`` and ``I`` follow the vowel before them, ``D`` is ``t`` after a voiceless
consonant, and a letter in brackets only follows a vowel."""

COMPOUND_HEADS = frozenset(
    listed(
        "Adası, Ajansı, Bakanlığı, Bankası, Barajı, Belediyesi, Birliği, Caddesi, Cumhuriyeti, Dağı, Dağları, "
        "Devletleri, Federasyonu, Garı, Gazetesi, Gölü, Havalimanı, İstasyonu, Kalesi, Kamarası, Köprüsü, Kulübü, "
        "Kurumu, Kuvvetleri, Kütüphanesi, Limanı, Lisesi, Mahkemesi, Meydanı, Müzesi, Nehri, Orkestrası, Ormanı, "
        "Ovası, Örgütü, Partisi, Sarayı, Tiyatroları, Üniversitesi, Vakfı, Yayınevi, Yayınları, Yolları, Ankaragücü, "
        "Gençlerbirliği, Gölbaşı"
    )
)
"""Last words of compound names. They end in a possessive suffix, after which the buffer letter is ``n``:
``Ankara Üniversitesi'nde``."""

SPOKEN = MappingProxyType(
    {
        "AB": "abe",
        "Ajax": "ayaks",
        "Arsenal": "arsenel",
        "BBC": "bibisi",
        "BMW": "bemeve",
        "Bordeaux": "bordo",
        "Cambridge": "kembriç",
        "Celtics": "seltiks",
        "Chelsea": "çelsi",
        "Claire": "kler",
        "Dubois": "dübua",
        "Google": "gugıl",
        "Houston": "hyustın",
        "IMF": "imefe",
        "Jackson": "ceksın",
        "Kovač": "kovaç",
        "Laurent": "loran",
        "Lincoln": "linkın",
        "Liverpool": "livırpul",
        "Lyon": "liyon",
        "Max": "maks",
        "Montreal": "montrel",
        "Moreau": "moro",
        "Music": "müzik",
        "Nestlé": "nestle",
        "OPEC": "opek",
        "Petit": "pöti",
        "Pierre": "piyer",
        "Renault": "reno",
        "Saint-Germain": "senjermen",
        "Senegal": "senegel",
        "Sony": "soni",
        "Sydney": "sidni",
        "THY": "teheye",
        "TRT": "terete",
        "United": "yunaytıd",
        "YouTube": "yutub",
    }
)
"""The pronunciation of words whose last sounds differ from their spelling."""

DIGITS = ("sıfır", "bir", "iki", "üç", "dört", "beş", "altı", "yedi", "sekiz", "dokuz")
TENS = ("yüz", "on", "yirmi", "otuz", "kırk", "elli", "altmış", "yetmiş", "seksen", "doksan")


def spoken(word: str) -> str:
    """Return the pronunciation of the end of a word, in lower case.

    >>> spoken("İzmir"), spoken("1990"), spoken("TRT")
    ('izmir', 'doksan', 'terete')
    """
    if word in SPOKEN:
        return SPOKEN[word]
    if word.isdigit():
        if word.endswith("000"):
            return "bin"
        return DIGITS[int(word[-1])] if word[-1] != "0" else TENS[int(word[-2:]) // 10]
    return word.replace("İ", "i").replace("I", "ı").lower()


def suffix(word: str, case: str) -> str:
    """Return the form of a case suffix after a word.

    Args:
        word: The last word of a name.
        case: A key of ``SUFFIXES``.

    Returns:
        The suffix without an apostrophe.

    >>> [suffix("Ankara", case) for case in SUFFIXES]
    ['da', 'dan', 'ya', 'yı', 'nın', 'yla', 'dır']
    >>> [suffix("Gölü", case) for case in SUFFIXES]
    ['nde', 'nden', 'ne', 'nü', 'nün', 'yle', 'dür']
    >>> suffix("Paris", "abl"), suffix("Senegal", "gen"), suffix("1984", "loc")
    ('ten', 'in', 'te')
    """
    heard = spoken(word)
    form = SUFFIXES[case]
    if word in COMPOUND_HEADS and case in ("loc", "abl", "dat", "acc"):
        form = "n" + form.replace("(y)", "")
    elif heard[-1] in VOWELS:
        form = form.replace("(", "").replace(")", "")
    else:
        form = form.replace("(y)", "").replace("(n)", "")
    voiceless = heard[-1] in VOICELESS and not form.startswith("n")
    vowel = next((letter for letter in reversed(heard) if letter in VOWELS), "e")
    front = vowel in "eiöü"
    close = {"a": "ı", "ı": "ı", "o": "u", "u": "u", "e": "i", "i": "i", "ö": "ü", "ü": "ü"}[vowel]
    letters = {"A": "e" if front else "a", "I": close, "D": "t" if voiceless else "d"}
    return "".join(letters.get(letter, letter) for letter in form)
