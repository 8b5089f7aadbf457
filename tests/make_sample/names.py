"""Names of people, places and organisations: shared by English and Turkish, or of one language only.

Some names are in several lists on purpose: ``Washington`` is a surname, a city and the beginning of a club, ``Aydın`` a
given name, a surname and a city. The type of such a name follows only from its context.
"""


def listed(text: str) -> tuple[str, ...]:
    """Split a list at its commas.

    >>> listed("Rio de Janeiro, Oslo")
    ('Rio de Janeiro', 'Oslo')
    """
    return tuple(text.split(", "))


SHARED_GIVEN_NAMES = listed(
    "Maria, Anna, Daniel, David, Elena, Laura, Martin, Robert, Thomas, Peter, Sara, Hans, Carlos, Pablo, Sofia, "
    "Marco, Paolo, Lucas, Emma, Victor, Julia, Anton, Ivan, Olga, Erik, Ingrid, Pierre, Claire, Paul, Max, Nina, "
    "Adam, Diana, Klaus, Karin, Leon"
)
SHARED_SURNAMES = listed(
    "Washington, Lincoln, Ford, Jackson, Houston, Jordan, Benz, Santos, Milan, Schneider, Weber, Fischer, Wagner, "
    "Becker, Hoffmann, Garcia, Torres, Romero, Silva, Costa, Pereira, Rossi, Bianchi, Ferrari, Romano, Dubois, "
    "Laurent, Moreau, Petit, Novak, Kovač, Horvat, Andersson, Larsson, Hansen, Nilsen, Jansen, Visser, Virtanen, "
    "Nowak, Petrov, Ivanov, Tanaka, Suzuki, Honda"
)
ENGLISH_GIVEN_NAMES = listed(
    "John, William, James, Mary, Elizabeth, Charles, Henry, George, Edward, Alice, Margaret, Catherine, Richard, "
    "Joseph, Samuel, Arthur, Walter, Florence, Virginia, Charlotte, Emily, Grace, Helen, Dorothy, Ruth, Frank, "
    "Harold, Ralph, Stanley, Douglas, Austin, Sydney, Madison, Chelsea, Kenneth, Stephen, Andrew, Matthew, Michael, "
    "Patrick, Susan, Barbara, Janet, Philip, Oliver, Harry, Jack, Lucy, Rose, Hugh, Neil, Graham, Simon, Timothy, "
    "Nancy, Judith"
)
ENGLISH_SURNAMES = listed(
    "Smith, Jones, Taylor, Brown, Wilson, Evans, Walker, Wright, Robinson, Thompson, White, Hughes, Green, Hall, "
    "Wood, Clarke, Harris, Lewis, Turner, Carter, Cooper, Parker, Bennett, Morgan, Bailey, Lancaster, York, Bedford, "
    "Richmond, Bristol, Columbus, Austin, Dallas, Hamilton, Wellington, Lawrence, Preston, Barton, Burton, Clayton, "
    "Sutton, Stafford, Kent, Warwick, Marshall, Fletcher, Mason, Gardner, Palmer, Foster, Harper, Chapman, Spencer, "
    "Webb, Hawkins, Stone, Reed, Ellis, Porter, Newton, Dawson, Holmes, Fleming, Sinclair, Campbell, Murray, Fraser, "
    "O'Brien, O'Connor, Kennedy, Murphy, Byrne, Kelly, McDonald, McKenzie"
)
TURKISH_GIVEN_NAMES = listed(
    "Ahmet, Mehmet, Mustafa, Ali, Hüseyin, Hasan, İbrahim, Osman, Yusuf, Murat, Ömer, Emre, Burak, Cem, Can, Kerem, "
    "Selim, Tarık, Orhan, Nazım, Aydın, Deniz, Fırat, Dicle, Meriç, Ceyhan, Tuna, Toros, Ayşe, Fatma, Zeynep, Elif, "
    "Emine, Hatice, Merve, Esra, Büşra, Özlem, Sibel, Gülşen, Nur, Pınar, Derya, Ebru, Yasemin, Çiğdem, Şule, Ceren, "
    "Irmak, Leyla, Sevgi, Hakan, Serkan, Volkan, Tolga, Onur, Barış, Umut, Kaan, Sinan, Turgut, Cemil, Halil, Şükrü, "
    "Tevfik, Rıza, Nihat, İsmail, Efe, Poyraz"
)
TURKISH_SURNAMES = listed(
    "Yılmaz, Kaya, Demir, Çelik, Şahin, Yıldız, Yıldırım, Öztürk, Aydın, Özdemir, Arslan, Doğan, Kılıç, Aslan, Çetin, "
    "Kara, Koç, Kurt, Özkan, Şimşek, Polat, Korkmaz, Erdem, Güneş, Aksoy, Bulut, Sabancı, Karaca, "
    "Sakarya, Bursalı, Toprak, Uçar, Tekin, Ateş, Avcı, Güler, Işık, Keskin, Turan, Yavuz, Bozkurt, Acar, Ünal, Gül, "
    "Özer, Taş, Kaplan, Tunç, Sezer, Uysal, Ertürk, Köse, Akın, Ergin, Duman, Ceylan, Soylu, Gürsoy, Altıntaş, Çakır, "
    "Karataş, Ekinci, Balcı, Oral, Tezcan, Sönmez, Baysal, Erol, Alkan, Dinçer, Göktürk, Başaran, Tanrıkulu, Kocaeli, "
    "Çınar, Ergüven"
)
ENGLISH_SAINTS = ("Mary", "John", "George", "Patrick", "Andrew", "Margaret", "Catherine", "Stephen", "Anna", "Martin")
TURKISH_NAMESAKES = listed(
    "Atatürk, İnönü, Mimar Sinan, Yunus Emre, Evliya Çelebi, Kâtip Çelebi, Piri Reis, Âşık Veysel"
)
"""People after whom streets, schools and airports are named; not used as surnames."""

TURKISH_PASHAS = (
    "Ahmet",
    "Mehmet",
    "Mustafa",
    "Hasan",
    "İbrahim",
    "Osman",
    "Halil",
    "Tevfik",
    "Rıza",
    "Nihat",
    "Cemil",
)

COUNTRIES = {
    "Turkey": "Türkiye",
    "Germany": "Almanya",
    "France": "Fransa",
    "Italy": "İtalya",
    "Spain": "İspanya",
    "Portugal": "Portekiz",
    "United Kingdom": "Birleşik Krallık",
    "Ireland": "İrlanda",
    "United States": "Amerika Birleşik Devletleri",
    "Canada": "Kanada",
    "Brazil": "Brezilya",
    "Argentina": "Arjantin",
    "Chile": "Şili",
    "Peru": "Peru",
    "Japan": "Japonya",
    "China": "Çin",
    "South Korea": "Güney Kore",
    "Australia": "Avustralya",
    "Norway": "Norveç",
    "Sweden": "İsveç",
    "Finland": "Finlandiya",
    "Denmark": "Danimarka",
    "Poland": "Polonya",
    "Hungary": "Macaristan",
    "Croatia": "Hırvatistan",
    "Serbia": "Sırbistan",
    "Romania": "Romanya",
    "Bulgaria": "Bulgaristan",
    "Greece": "Yunanistan",
    "Austria": "Avusturya",
    "Switzerland": "İsviçre",
    "Netherlands": "Hollanda",
    "Belgium": "Belçika",
    "Czech Republic": "Çek Cumhuriyeti",
    "Russia": "Rusya",
    "Egypt": "Mısır",
    "Morocco": "Fas",
    "Tunisia": "Tunus",
    "Kenya": "Kenya",
    "Senegal": "Senegal",
    "India": "Hindistan",
    "Indonesia": "Endonezya",
    "Mexico": "Meksika",
    "Cuba": "Küba",
    "Georgia": "Gürcistan",
    "Azerbaijan": "Azerbaycan",
    "Kazakhstan": "Kazakistan",
    "Uzbekistan": "Özbekistan",
    "Iceland": "İzlanda",
    "New Zealand": "Yeni Zelanda",
}
"""The English name of each country, and the Turkish one."""

SHARED_CITIES = {
    "Turkey": ("Ankara", "Bursa", "Konya", "Samsun", "Trabzon", "Adana", "Antalya"),
    "Germany": ("Berlin", "Hamburg", "Dortmund", "Stuttgart", "Leipzig", "Bremen"),
    "France": ("Paris", "Lyon", "Bordeaux"),
    "Italy": ("Bologna", "Parma", "Palermo"),
    "Spain": ("Madrid", "Barcelona", "Valencia", "Granada"),
    "Portugal": ("Porto", "Braga"),
    "United Kingdom": ("Manchester", "Liverpool", "Oxford", "Cambridge"),
    "Ireland": ("Dublin",),
    "United States": ("Washington", "Chicago", "Boston", "Houston", "Dallas", "Lincoln", "Jackson", "Orlando"),
    "Canada": ("Toronto", "Montreal", "Ottawa"),
    "Brazil": ("Santos", "Rio de Janeiro"),
    "Argentina": ("Buenos Aires", "Rosario"),
    "Peru": ("Lima",),
    "Japan": ("Tokyo", "Osaka"),
    "Norway": ("Oslo", "Bergen"),
    "Sweden": ("Malmö",),
    "Finland": ("Helsinki",),
    "Croatia": ("Zagreb", "Split"),
    "Hungary": ("Budapest",),
    "Australia": ("Sydney", "Perth"),
    "Switzerland": ("Bern", "Basel"),
    "Kenya": ("Nairobi",),
}
ENGLISH_CITIES = {
    "United Kingdom": (
        *("London", "York", "Leeds", "Bristol", "Lancaster", "Bedford", "Preston", "Norwich", "Plymouth", "Warwick"),
        *("Stafford", "Bath", "Durham", "Exeter", "Newcastle", "Barton", "Burton upon Trent", "Sutton", "Hamilton"),
    ),
    "United States": (
        *("Springfield", "Richmond", "Madison", "Columbus", "Austin", "Philadelphia", "New Orleans", "Salem", "Albany"),
        *("Cleveland", "Portland", "Lawrence", "Marshall", "Santa Barbara", "Kansas City"),
    ),
    "New Zealand": ("Wellington", "Auckland"),
    "Italy": ("Rome", "Venice", "Naples", "Florence", "Turin", "Genoa", "Milan"),
    "Germany": ("Munich", "Cologne", "Nuremberg"),
    "Austria": ("Vienna",),
    "Greece": ("Athens", "Thessaloniki"),
    "Czech Republic": ("Prague",),
    "Poland": ("Warsaw", "Krakow"),
    "Portugal": ("Lisbon",),
    "Denmark": ("Copenhagen",),
    "Switzerland": ("Geneva", "Zurich"),
    "Turkey": ("Istanbul", "Izmir"),
    "China": ("Beijing", "Shanghai"),
    "Egypt": ("Cairo", "Alexandria"),
    "Spain": ("Seville",),
    "Russia": ("Moscow",),
    "India": ("Delhi",),
    "Romania": ("Bucharest",),
}
TURKISH_CITIES = {
    "Turkey": (
        *(
            "İstanbul",
            "İzmir",
            "Eskişehir",
            "Kayseri",
            "Gaziantep",
            "Diyarbakır",
            "Malatya",
            "Erzurum",
            "Sivas",
            "Rize",
        ),
        *("Ordu", "Sinop", "Kars", "Van", "Aydın", "Sakarya", "Kocaeli", "Mersin", "Muğla", "Çanakkale", "Tekirdağ"),
        *("Kırşehir", "Zonguldak", "Kütahya", "Amasya", "Tokat", "Çorum", "Edirne", "Denizli", "Balıkesir", "Manisa"),
        *("Isparta", "Burdur", "Giresun", "Artvin", "Kastamonu", "Ceyhan", "Bodrum", "Beşiktaş", "Göztepe", "Üsküdar"),
    ),
    "United Kingdom": ("Londra", "Birmingham"),
    "Italy": ("Roma", "Venedik", "Napoli", "Floransa", "Torino", "Cenova", "Milano"),
    "Germany": ("Münih", "Köln"),
    "Austria": ("Viyana",),
    "Greece": ("Atina", "Selanik"),
    "Czech Republic": ("Prag",),
    "Poland": ("Varşova",),
    "Portugal": ("Lizbon",),
    "Denmark": ("Kopenhag",),
    "Switzerland": ("Cenevre", "Zürih"),
    "China": ("Pekin", "Şanghay"),
    "Egypt": ("Kahire", "İskenderiye"),
    "Russia": ("Moskova",),
    "Bulgaria": ("Sofya",),
    "Romania": ("Bükreş",),
    "Azerbaijan": ("Bakü",),
}

ENGLISH_REGIONS = listed(
    "Bavaria, Andalusia, Tuscany, Sicily, Brittany, Scotland, Wales, Cornwall, Yorkshire, Lincolnshire, Kent, Texas, "
    "Ohio, Virginia, Nebraska, Oregon, Georgia, Catalonia, Anatolia, Thrace, Cappadocia, Siberia, Patagonia, "
    "Normandy, Transylvania, Ontario, Queensland, Lancashire, New England, Nova Scotia, California, Alaska"
)
TURKISH_REGIONS = listed(
    "Bavyera, Endülüs, Toskana, Sicilya, Bretanya, İskoçya, Galler, Teksas, Ohio, Virginia, Katalonya, Anadolu, "
    "Trakya, Kapadokya, Sibirya, Patagonya, Normandiya, Transilvanya, Ontario, Rumeli, Çukurova, Karadeniz, Ege, "
    "Marmara, Likya, Lidya, Kaliforniya, Alaska, İç Anadolu, Doğu Anadolu"
)

ENGLISH_RIVERS = listed(
    "Danube, Rhine, Thames, Severn, Volga, Seine, Nile, Hudson, Jordan, Columbia, Potomac, River Trent, River Avon, "
    "River Kent, Ohio River, Red River, Elbe, Loire, Tigris, Euphrates"
)
TURKISH_RIVERS = listed(
    "Tuna, Ren, Volga, Nil, Dicle, Fırat, Meriç, Sakarya, Ceyhan, Seyhan, Kızılırmak, Yeşilırmak, Gediz, Aras, Elbe, "
    "Sen Nehri, Göksu Nehri, Tuna Nehri, Şeria Nehri, Köprüçay"
)
ENGLISH_RANGES = listed(
    "Alps, Taurus Mountains, Carpathians, Andes, Pyrenees, Rocky Mountains, Black Forest, Appalachians, Cotswolds, "
    "Kennedy Range, Stone Hills"
)
ENGLISH_PEAKS = listed(
    "Mount Ararat, Mount Washington, Mount Olympus, Mount Hood, Ben Nevis, Snowdon, Mount Lincoln, Mount Erciyes, "
    "Etna, Lawrence Hill, Sherwood Forest"
)
TURKISH_RANGES = ("Alpler", "Toros Dağları", "Karpatlar", "And Dağları", "Pireneler", "Kaçkar Dağları", "Rodoplar")
TURKISH_PEAKS = listed(
    "Ağrı Dağı, Uludağ, Olimpos Dağı, Erciyes, Hasan Dağı, Süphan Dağı, Kaz Dağı, Nemrut Dağı, Ilgaz Dağı, "
    "Belgrad Ormanı, Etna, Kaplan Dağı"
)
SHARED_VILLAGES = ("Santa Maria", "San Pedro", "Montana", "Victoria", "Alba", "Verona", "Toledo", "Elena")
ENGLISH_VILLAGES = listed(
    "Ashford, Millbrook, Stone, Wood End, Little Barton, Great Marlow, Newton, Clayton, Harper's Ferry, Thornbury, "
    "Westbrook, Kirkby, Oakham, Foster, Hawkins, Green Hill, St Albans, Porter, Dunmore, Kells"
)
TURKISH_VILLAGES = listed(
    "Yenice, Karaca, Çınar, Akpınar, Gölbaşı, Yeşilköy, Taşköprü, Kemalpaşa, Turgutlu, Demirci, Karasu, Çiftlik, "
    "Yıldız, Soğuksu, Bahçeköy, Kaya, Ortaca, Güneyce, Eskipazar, Elmalı"
)

SHARED_COMPANIES = listed(
    "Siemens, Ford, Honda, Toyota, Suzuki, BMW, Benz, Renault, Ferrari, Nokia, Google, YouTube, Sony, Samsung, Volvo, "
    "Nestlé, Philips, Microsoft, Intel, Universal Music, Warner, Hilton"
)
ENGLISH_COMPANIES = listed(
    "British Airways, Marks & Spencer, General Electric, Penguin Books, Morgan Motors, Great Western Railway, "
    "Harper & Sons, Atlantic Records, Northern Steel, Kelly Shipping Company, Parker Pen Company, Lincoln Motors, "
    "Holmes and Reed, Royal Mail, Pacific Gas Company, Bristol Aeroplane Company, Wellington Press, Union Bank, "
    "Columbus Pictures, Fletcher Instruments"
)
TURKISH_COMPANIES = listed(
    "Türk Hava Yolları, THY, Arçelik, Vestel, Ziraat Bankası, İş Bankası, Yapı Kredi Yayınları, Anadolu Ajansı, "
    "Koç Holding, Sabancı Holding, Tofaş, Aselsan, Ege Çelik, Toros Gübre, Deniz Yayınevi, Can Yayınları, "
    "Doğan Müzik, Güneş Gazetesi, Yıldız Tekstil, Marmara Film, Başkent Sigorta"
)

SHARED_ORGANISATIONS = ("UNESCO", "NATO", "UEFA", "FIFA", "NASA", "UNICEF", "BBC", "IMF", "FIBA", "OPEC", "Interpol")
ENGLISH_ORGANISATIONS = listed(
    "European Union, United Nations, World Health Organization, Red Cross, House of Commons, Royal Society, "
    "Labour Party, Liberal Party, Green Party, Church of England, Supreme Court, Royal Navy, National Trust, "
    "Boy Scouts, Ministry of Education, Royal Academy of Music, Senate, Associated Press, Football Association, "
    "Trade Union Congress"
)
TURKISH_ORGANISATIONS = listed(
    "Avrupa Birliği, Birleşmiş Milletler, Dünya Sağlık Örgütü, Kızılay, Avam Kamarası, TRT, Danıştay, Yargıtay, "
    "Anayasa Mahkemesi, Türk Dil Kurumu, Türk Tarih Kurumu, İşçi Partisi, Liberal Parti, Yeşiller Partisi, "
    "Millî Eğitim Bakanlığı, AB, Devlet Tiyatroları, Darülfünun, Futbol Federasyonu, Deniz Kuvvetleri"
)

SHARED_CLUBS = listed(
    "Real Madrid, Barcelona, Valencia, Liverpool, Manchester United, Chelsea, Arsenal, Milan, Juventus, Bayern, Ajax, "
    "Benfica, Porto, Santos, Galatasaray, Fenerbahçe, Beşiktaş, Trabzonspor, Chicago Bulls, Boston Celtics, "
    "Dinamo Zagreb, Olympiakos, Paris Saint-Germain, Werder Bremen"
)
ENGLISH_CLUBS = listed(
    "Leeds United, York City, Bristol Rovers, Preston North End, Norwich City, Lincoln City, Sheffield Wednesday, "
    "Sutton United, Washington Senators, Dallas Stars, Houston Astros, Kansas City Royals, Glasgow Rangers, "
    "Bath Rugby, Kent Cricket Club, Richmond Tigers, Austin Bats, Plymouth Argyle, Burton Albion, Wellington Lions"
)
TURKISH_CLUBS = listed(
    "Bursaspor, Göztepe, Altay, Eskişehirspor, Kayserispor, Sivasspor, Konyaspor, Antalyaspor, Gençlerbirliği, "
    "Ankaragücü, Denizlispor, Sakaryaspor, Kocaelispor, Samsunspor, Rizespor, Orduspor, Malatyaspor, Adanaspor, "
    "Karşıyaka, Anadolu Efes, İstanbul Başakşehir, Boluspor, Altınordu, Kızılyıldız"
)
