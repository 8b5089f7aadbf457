"""Sentence templates and word lists of English and Turkish.

The words of a template are separated by spaces. The slot ``{city}`` stands for a name or word of that kind,
``{city:loc}`` for a Turkish name in the locative, ``{its_country}`` for the country of the preceding city. A kind is a
tuple from which one entry is chosen. An entry may be a template: ``{city} Museum`` gives ``Paris Museum``, one name.
"""

from collections.abc import Mapping

from tests.make_sample import names
from tests.make_sample.names import listed

Kinds = Mapping[str, tuple[str, ...]]

ENTITY_TYPES = {
    **dict.fromkeys(("person", "surname", "given", "namesake", "title_person"), "PER"),
    **dict.fromkeys(("city", "its_country", "country", "region", "place", "title_place"), "LOC"),
    **dict.fromkeys(("river", "range", "peak", "village", "airport", "station", "building"), "LOC"),
    **dict.fromkeys(("company", "club", "institution", "organisation", "acronym", "title_organisation"), "ORG"),
}
"""The entity type of each kind that is a name; the words of other kinds are tagged ``O``."""

NAME_LISTS = listed(
    "given_name, surname_name, foreign_given_name, foreign_surname_name, city, country, region, river, range, peak, "
    "village, company, club, organisation, acronym"
)
"""The kinds of which some names are left out of the training sentences."""


def country_of(*tables: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Invert tables of cities by country into the country of each city, by its English name.

    >>> country_of({"France": ("Paris", "Lyon")}, {"Norway": ("Oslo",)})
    {'Paris': 'France', 'Lyon': 'France', 'Oslo': 'Norway'}
    """
    return {city: country for table in tables for country, cities in table.items() for city in cities}


ENGLISH_COUNTRY_OF = country_of(names.SHARED_CITIES, names.ENGLISH_CITIES)
TURKISH_COUNTRY_OF = {
    city: names.COUNTRIES[country] for city, country in country_of(names.SHARED_CITIES, names.TURKISH_CITIES).items()
}

NUMBERS: Kinds = {
    "day": tuple(str(day) for day in range(1, 29)),
    "early_year": tuple(str(year) for year in range(1841, 1900)),
    "middle_year": tuple(str(year) for year in range(1921, 1980)),
    "year": tuple(str(year) for year in range(1921, 2015)),
    "number": ("2", "3", "4", "7", "12", "15", "20", "35", "48", "60", "120", "250", "400"),
    "score": ("1 – 0", "2 – 1", "3 – 1", "0 – 0", "2 – 2", "4 – 2", "78 – 71", "91 – 85"),
}

ENGLISH_KINDS: Kinds = {
    **NUMBERS,
    "given_name": names.ENGLISH_GIVEN_NAMES,
    "surname_name": names.ENGLISH_SURNAMES + names.SHARED_SURNAMES[:9],
    "foreign_given_name": names.SHARED_GIVEN_NAMES,
    "foreign_surname_name": names.SHARED_SURNAMES,
    "given": ("{given_name}", "{given_name}", "{foreign_given_name}"),
    "surname": ("{surname_name}", "{surname_name}", "{foreign_surname_name}"),
    "person": (
        "{given_name} {surname_name}",
        "{given_name} {surname_name}",
        "{given_name} {initial} {surname_name}",
        "{foreign_given_name} {foreign_surname_name}",
    ),
    "saint": names.ENGLISH_SAINTS,
    "initial": ("A.", "B.", "C.", "E.", "F.", "H.", "J.", "L.", "M.", "R.", "T.", "W."),
    "city": tuple(ENGLISH_COUNTRY_OF),
    "country": tuple(names.COUNTRIES),
    "region": names.ENGLISH_REGIONS,
    "river": names.ENGLISH_RIVERS,
    "range": names.ENGLISH_RANGES,
    "peak": names.ENGLISH_PEAKS,
    "village": names.SHARED_VILLAGES + names.ENGLISH_VILLAGES,
    "place": ("{city}", "{city}", "{country}", "{region}", "{village}"),
    "airport": ("{surname_name} International Airport", "{city} Airport"),
    "station": ("{city} Central Station", "{surname_name} Station"),
    "building": (
        "{airport}",
        "{station}",
        "{city} Castle",
        "{surname_name} Bridge",
        "{surname_name} County",
        "Lake {surname_name}",
        "Port {surname_name}",
        "{given_name} Street",
        "Cape {surname_name}",
        "St {saint} Island",
    ),
    "company": names.SHARED_COMPANIES + names.ENGLISH_COMPANIES + ("{surname_name} & Sons", "Bank of {country}"),
    "club": names.SHARED_CLUBS + names.ENGLISH_CLUBS + ("{city}", "{city} United", "FC {city}"),
    "acronym": names.SHARED_ORGANISATIONS,
    "organisation": names.ENGLISH_ORGANISATIONS,
    "institution": (
        "University of {city}",
        "{city} University",
        "{surname_name} College",
        "{surname_name} Institute of Technology",
        "{city} Philharmonic Orchestra",
        "{surname_name} Foundation",
        "{city} City Council",
        "Museum of {city}",
        "{surname_name} Museum",
        "National Library of {country}",
        "St {saint} School",
    ),
    "title_person": (
        "{person}",
        "{person}",
        "{person} ( {role} )",
        "{surname_name} , {given_name}",
        "{given_name} {surname_name} Jr.",
    ),
    "title_place": (
        "{city} , {its_country}",
        "{village} , {region}",
        "{building}",
        "{city}",
        "{village} ( {region} )",
        "{peak}",
    ),
    "title_organisation": (
        "{institution}",
        "{organisation}",
        "{acronym}",
        "{company}",
        "{company} ( company )",
        "{club}",
        "{club} ( {sport} club )",
    ),
    "role": ("footballer", "painter", "politician", "actor", "writer", "singer", "chess player", "bishop", "cyclist"),
    "sport": ("football", "basketball", "rugby", "volleyball", "hockey"),
    "profession": (
        *("footballer", "painter", "politician", "actor", "writer", "singer", "composer", "physicist", "architect"),
        *("historian", "novelist", "engineer", "biologist", "lawyer", "photographer", "chess player", "swimmer"),
    ),
    "nationality": (
        *("English", "German", "French", "Turkish", "Italian", "Spanish", "American", "Japanese", "Polish", "Swedish"),
        *("Portuguese", "Brazilian", "Dutch", "Greek", "Russian", "Hungarian", "Canadian", "Irish"),
    ),
    "month": listed("January, February, March, April, May, June, July, August, September, October, November, December"),
    "work": (
        *("Silent Rivers", "The Long Road", "Winter Garden", "Blue Morning", "Letters from Nowhere", "The Glass House"),
        *("Night Train", "A Quiet Summer", "Golden Leaves", "The Last Bridge", "Open Windows", "Stone and Water"),
    ),
    "event": (
        "World Cup",
        "Summer Olympics",
        "European Championship",
        "Spring Festival",
        "Film Festival",
        "Grand Prix",
    ),
    "thing": ("bridge", "library", "theatre", "park", "railway station", "harbour", "hospital", "town hall", "factory"),
    "adjective": ("old", "new", "large", "small", "famous", "modern", "former", "quiet", "northern", "early"),
}

ENGLISH_SENTENCES = (
    "{person} ( born {day} {month} {middle_year} ) is a {nationality} {profession} .",
    "{person} ( {early_year} – {middle_year} ) was a {nationality} {profession} and {profession} .",
    "He was born in {city} , {its_country} .",
    "She moved to {city} in {year} and worked for {company} .",
    "He played for {club} and {club} .",
    "{person} signed for {club} in {month} {year} .",
    "The {river} flows through {city} .",
    "{city} is twinned with {city} and {city} .",
    "{surname} studied at {institution} .",
    "{surname} died in {place} in {year} .",
    "In {year} {surname} joined {company} as an engineer .",
    "{company} opened an office in {city} .",
    "The members of the {organisation} met in {city} on {day} {month} {year} .",
    "{club} lost to {club} in the final .",
    "{club} won {score} against {club} in {city} .",
    "The road from {place} to {place} was built in {year} .",
    "{surname} , a {profession} from {place} , taught at {institution} .",
    "The museum shows letters of {person} and {person} .",
    "{country} and {country} signed the treaty in {city} .",
    "'' {work} '' was released by {company} in {country} .",
    "A daily flight goes from {airport} to {city} .",
    "'' {work} '' is a song by {person} .",
    "'' {work} '' is a {year} film directed by {person} .",
    "According to {surname} , the village lies north of {place} .",
    "The head office of {company} is in {city} , {its_country} .",
    "{surname} wrote a book about the {adjective} {thing} of {place} .",
    "{village} is a village in {region} .",
    "The {adjective} {thing} in {place} was designed by {surname} .",
    "It lies between {place} and the {range} .",
    "{peak} can be seen from {place} .",
    "{institution} was founded in {year} by {person} .",
    "{surname} became a member of the {organisation} .",
    "The {organisation} gave the prize to {person} .",
    "The {adjective} {thing} belongs to {institution} .",
    "{building} is {number} km from {city} .",
    "{given} and {given} met in {place} .",
    "His friend {given} came from {place} .",
    "The {nationality} team {club} reached the {event} .",
    "{surname} scored {number} goals for {club} .",
    "The {event} of {year} was held in {country} .",
    "The {nationality} {profession} {surname} lived in {place} until {year} .",
    "{acronym} and the {organisation} published a report in {month} .",
    "{place} has {number} schools and a {thing} .",
    "{company} sold the factory to {company} .",
    "{acronym} opened an office in {city} in {year} .",
    "The delegates of {acronym} visited {place} .",
    "The district borders {place} to the east .",
    "It was opened by {surname} in {year} .",
    "In {place} , the winters are cold and the summers are short .",
    "{surname} and {surname} left {club} .",
    "Trains to {place} stop at {station} .",
    "He worked with {person} at {institution} .",
    "The {event} was a success , and {number} people came .",
    "Most of the {adjective} houses were built in the {nationality} style .",
)

ENGLISH_REDIRECTS = ("REDIRECT {title_person}", "REDIRECT {title_place}", "REDIRECT {title_organisation}")
ENGLISH_TITLES = (
    "{title_person}",
    "{title_place}",
    "{title_organisation}",
    "{person} , {profession}",
    "{city} , {its_country}",
    "List of {nationality} writers",
    "'' ' {club} '' '",
    "'' ' {person} '' '",
)
ENGLISH_ITEMS = (
    "* {person} ( {year} )",
    "* {person} , {nationality} {profession}",
    "* {building} ( {city} , {its_country} )",
    "* {person} – {club}",
    "** {institution} , {city}",
    "{city} – {city} – {place}",
    "{person} ( {club} ) {number}",
    "{year} : {person} , '' {work} ''",
    "* {company} , {organisation} , {company}",
    "See also : {place} , {person}",
    "{club} – {club} {score}",
)

TURKISH_KINDS: Kinds = {
    **NUMBERS,
    "given_name": names.TURKISH_GIVEN_NAMES,
    "surname_name": names.TURKISH_SURNAMES,
    "namesake": names.TURKISH_NAMESAKES,
    "pasha": names.TURKISH_PASHAS,
    "foreign_given_name": names.SHARED_GIVEN_NAMES,
    "foreign_surname_name": names.SHARED_SURNAMES,
    "given": ("{given_name}", "{given_name}", "{given_name}", "{foreign_given_name}"),
    "surname": ("{surname_name}", "{surname_name}", "{surname_name}", "{foreign_surname_name}"),
    "person": (
        "{given_name} {surname_name}",
        "{given_name} {surname_name}",
        "{given_name} {surname_name} {surname_name}",
        "{foreign_given_name} {foreign_surname_name}",
    ),
    "city": tuple(TURKISH_COUNTRY_OF),
    "home": names.SHARED_CITIES["Turkey"] + names.TURKISH_CITIES["Turkey"],
    "country": tuple(names.COUNTRIES.values()),
    "region": names.TURKISH_REGIONS,
    "river": names.TURKISH_RIVERS,
    "range": names.TURKISH_RANGES,
    "peak": names.TURKISH_PEAKS,
    "village": names.SHARED_VILLAGES + names.TURKISH_VILLAGES,
    "place": ("{city}", "{city}", "{country}", "{region}", "{village}"),
    "airport": ("{surname_name} Havalimanı", "{city} Havalimanı", "{namesake} Havalimanı"),
    "station": ("{city} Garı", "{village} İstasyonu"),
    "building": (
        "{airport}",
        "{station}",
        "{city} Kalesi",
        "{surname_name} Köprüsü",
        "{surname_name} Caddesi",
        "{namesake} Caddesi",
        "{village} Gölü",
        "{city} Limanı",
        "{given_name} {surname_name} Meydanı",
        "{village} Barajı",
        "{city} Ovası",
        "{pasha} Paşa Sarayı",
    ),
    "company": names.SHARED_COMPANIES
    + names.TURKISH_COMPANIES
    + ("{surname_name} Holding", "{country} Merkez Bankası"),
    "club": names.SHARED_CLUBS
    + names.TURKISH_CLUBS
    + ("{home} Spor Kulübü", "{home} Belediyespor", "{home} Demirspor"),
    "acronym": names.SHARED_ORGANISATIONS,
    "organisation": names.TURKISH_ORGANISATIONS,
    "institution": (
        "{city} Üniversitesi",
        "{surname_name} Üniversitesi",
        "{surname_name} Lisesi",
        "{namesake} Lisesi",
        "{namesake} Üniversitesi",
        "{city} Teknik Üniversitesi",
        "{city} Devlet Senfoni Orkestrası",
        "{surname_name} Vakfı",
        "{city} Belediyesi",
        "{city} Müzesi",
        "{surname_name} Müzesi",
        "{country} Millî Kütüphanesi",
        "{given_name} {surname_name} Anadolu Lisesi",
    ),
    "title_person": (
        "{person}",
        "{person}",
        "{person} ( {role} )",
        "{pasha} Paşa",
        "{surname_name} , {given_name}",
    ),
    "title_place": (
        "{city} , {its_country}",
        "{village} , {city}",
        "{building}",
        "{city}",
        "{village} ( {region} )",
        "{peak}",
    ),
    "title_organisation": (
        "{institution}",
        "{organisation}",
        "{acronym}",
        "{company}",
        "{company} ( şirket )",
        "{club}",
        "{club} ( {sport} takımı )",
    ),
    "role": ("futbolcu", "ressam", "siyasetçi", "oyuncu", "yazar", "şarkıcı", "satranççı", "din adamı", "bisikletçi"),
    "sport": ("futbol", "basketbol", "ragbi", "voleybol", "hokey"),
    "profession": (
        *("futbolcu", "ressam", "siyasetçi", "oyuncu", "yazar", "şarkıcı", "besteci", "fizikçi", "mimar", "tarihçi"),
        *("romancı", "mühendis", "biyolog", "avukat", "fotoğrafçı", "satranç oyuncusu", "yüzücü"),
    ),
    "nationality": (
        *("İngiliz", "Alman", "Fransız", "Türk", "İtalyan", "İspanyol", "Amerikalı", "Japon", "Polonyalı", "İsveçli"),
        *("Portekizli", "Brezilyalı", "Hollandalı", "Yunan", "Rus", "Macar", "Kanadalı", "İrlandalı"),
    ),
    "month": listed("Ocak, Şubat, Mart, Nisan, Mayıs, Haziran, Temmuz, Ağustos, Eylül, Ekim, Kasım, Aralık"),
    "work": (
        *("Sessiz Nehirler", "Uzun Yol", "Kış Bahçesi", "Mavi Sabah", "Kayıp Mektuplar", "Cam Ev", "Gece Treni"),
        *("Sakin Bir Yaz", "Altın Yapraklar", "Son Köprü", "Açık Pencereler", "Taş ve Su"),
    ),
    "event": ("Dünya Kupası", "Yaz Olimpiyatları", "Avrupa Şampiyonası", "Bahar Şenliği", "Film Festivali"),
    "thing": ("köprü", "kütüphane", "tiyatro", "park", "istasyon", "liman", "hastane", "çarşı", "fabrika"),
    "adjective": ("eski", "yeni", "büyük", "küçük", "ünlü", "modern", "sakin", "tarihî", "geniş"),
}

TURKISH_SENTENCES = (
    "{person} ( d. {day} {month} {middle_year} ) , {nationality} {profession} .",
    "{person} ( {early_year} – {middle_year} ) , {nationality} {profession} ve {profession:cop} .",
    "{city} , {its_country:loc} dünyaya geldi .",
    "{year} yılında {city:dat} taşındı ve {company:loc} çalıştı .",
    "{club} ve {club} takımlarında oynadı .",
    "{person} , {month} {year:loc} {club:dat} transfer oldu .",
    "{river} , {city:abl} geçer .",
    "{city} , {city} ve {city:ins} kardeş şehirdir .",
    "{surname} , {institution:loc} okudu .",
    "{surname} , {year} yılında {place:loc} öldü .",
    "{year} yılında {surname} mühendis olarak {company:dat} katıldı .",
    "{company} , {city:loc} bir büro açtı .",
    "{organisation} üyeleri {day} {month} {year:loc} {city:loc} toplandı .",
    "{club} , finalde {club:dat} yenildi .",
    "{club} , {city:loc} {club:acc} {score} yendi .",
    "{place:abl} {place:dat} giden yol {year:loc} yapıldı .",
    "{place:abl} gelen {profession} {surname} , {institution:loc} ders verdi .",
    "Müzede {person} ve {person:gen} mektupları sergileniyor .",
    "{country} ile {country} , antlaşmayı {city:loc} imzaladı .",
    "'' {work} '' , {country:loc} {company} tarafından yayımlandı .",
    "{airport:abl} {city:dat} her gün bir uçak kalkar .",
    "'' {work} '' , {person:gen} bir şarkısıdır .",
    "'' {work} '' , {person:gen} yönettiği {year} yapımı bir filmdir .",
    "{surname:dat} göre köy , {place:gen} kuzeyindedir .",
    "{company:gen} genel merkezi {city:loc} bulunmaktadır .",
    "{surname} , {place:gen} {adjective} evleri üzerine bir kitap yazdı .",
    "{village} , {region} bölgesinde bir köydür .",
    "{place:loc} bulunan {adjective} {thing} {surname} tarafından tasarlandı .",
    "{place} ile {range} arasında yer alır .",
    "{peak} , {place:abl} görülebilir .",
    "{institution} , {year:loc} {person} tarafından kuruldu .",
    "{surname} , {organisation} üyesi oldu .",
    "{organisation} , ödülü {person:dat} verdi .",
    "Bu {adjective} {thing} {institution:dat} aittir .",
    "{building} , {city:dat} {number} km uzaklıktadır .",
    "{given} ile {given} {place:loc} tanıştı .",
    "Arkadaşı {given} , {place:abl} gelmişti .",
    "{nationality} temsilci {club} , {event} için yola çıktı .",
    "{surname} , {club} formasıyla {number} gol attı .",
    "{year} yılındaki {event} , {country:loc} düzenlendi .",
    "{nationality} {profession} {surname} , {year} yılına kadar {place:loc} yaşadı .",
    "{acronym} ve {organisation} , {month} ayında bir rapor yayımladı .",
    "{place:loc} {number} okul ve bir {thing} vardır .",
    "{company} , fabrikayı {company:dat} sattı .",
    "{acronym} , {year} yılında {city:loc} bir büro açtı .",
    "{namesake} , {place:dat} gelmişti .",
    "Müzede {namesake:gen} mektupları ve resimleri sergileniyor .",
    "{acronym} temsilcileri {place:acc} ziyaret etti .",
    "İlçenin doğusunda {place} bulunur .",
    "{year:loc} {surname} tarafından açıldı .",
    "{place:loc} kışlar soğuk , yazlar kısadır .",
    "{surname} ve {surname} , {club:abl} ayrıldı .",
    "{place:dat} giden trenler {station:loc} durur .",
    "{institution:loc} {person:ins} çalıştı .",
    "{surname:gen} {place:loc} bir {thing} yaptırdığı bilinir .",
    "{event} büyük ilgi gördü ve {number} kişi katıldı .",
    "{adjective} evlerin çoğu {nationality} mimarların eseridir .",
)

TURKISH_REDIRECTS = ("YÖNLENDİRME {title_person}", "YÖNLENDİRME {title_place}", "YÖNLENDİRME {title_organisation}")
TURKISH_TITLES = (
    "{title_person}",
    "{title_place}",
    "{title_organisation}",
    "{person} , {profession}",
    "{city} , {its_country}",
    "{nationality} yazarlar listesi",
    "'' ' {club} '' '",
    "'' ' {person} '' '",
)
TURKISH_ITEMS = (
    "* {person} ( {year} )",
    "* {person} , {nationality} {profession}",
    "* {building} ( {city} , {its_country} )",
    "* {person} – {club}",
    "** {institution} , {city}",
    "{city} – {city} – {place}",
    "{person} ( {club} ) {number}",
    "{year} : {person} , '' {work} ''",
    "* {company} , {organisation} , {company}",
    "Ayrıca bakınız : {place} , {person}",
    "{club} – {club} {score}",
)
