"""The language of the experiment: sentence and question templates, word lists, and their tokenizer.

`{name}` and `{value}` in a template are a full name and an attribute's value; the value always
follows the name, as in the paper's data. In form `same`, every task uses the same questions. In
form `other`, the new questions share no word and no punctuation mark with the old ones, so that
shared prompt words cannot explain the forgetting.

Each word is in one list only, so every name and every value is a fixed number of tokens. The
tokenizer numbers all words the same for every seed, so one model serves all settings. Knows nothing
of people or seeds.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


Form = Literal["same", "other"]

FORMS: tuple[Form, ...] = ("same", "other")

ATTRIBUTES: tuple[str, ...] = (
    "birthday",
    "birth city",
    "university",
    "major",
    "company",
    "company city",
)

# Short on purpose: an entry of six sentences has about 56 tokens, and pretraining reads 160,000
# entries.
SENTENCES: dict[str, tuple[str, ...]] = {
    "birthday": (
        "{name} was born on {value}.",
        "{name} came into the world on {value}.",
        "{name} celebrates a birthday on {value}.",
        "The birth of {name} fell on {value}.",
        "The birthdate of {name} is {value}.",
        "{name} has been alive since {value}.",
        "{name} drew a first breath on {value}.",
        "The life of {name} began on {value}.",
        "{name} first saw daylight on {value}.",
        "Records date the birth of {name} to {value}.",
        "The parents of {name} welcomed their baby on {value}.",
        "{name} entered this life on {value}.",
        "{name} counts birthdays from {value}.",
        "The midwife delivered {name} on {value}.",
        "{name} was a newborn on {value}.",
        "A certificate says {name} arrived on {value}.",
        "{name} turned zero on {value}.",
        "The passport of {name} gives the date {value}.",
        "Friends toast {name} each year for {value}.",
        "{name} dates from {value}.",
    ),
    "birth city": (
        "{name} was born in {value}.",
        "{name} is a native of {value}.",
        "{name} hails from {value}.",
        "{name} came into the world in {value}.",
        "The birthplace of {name} is {value}.",
        "{name} spent the first days in {value}.",
        "{name} originally comes from {value}.",
        "{name} has roots in {value}.",
        "The hometown of {name} is {value}.",
        "The cradle of {name} stood in {value}.",
        "The life of {name} began in {value}.",
        "{name} drew a first breath in {value}.",
        "{name} first saw daylight in {value}.",
        "The parents of {name} then lived in {value}.",
        "The midwife delivered {name} in {value}.",
        "{name} is a child of {value}.",
        "The family of {name} was at home in {value}.",
        "{name} entered this life in {value}.",
        "Records place the birth of {name} in {value}.",
        "The passport of {name} names the town {value}.",
    ),
    "university": (
        "{name} studied at {value}.",
        "{name} graduated from {value}.",
        "{name} attended {value}.",
        "{name} earned a degree from {value}.",
        "{name} was a student at {value}.",
        "{name} took classes at {value}.",
        "The education of {name} took place at {value}.",
        "{name} holds a diploma from {value}.",
        "The alma mater of {name} is {value}.",
        "{name} enrolled at {value}.",
        "The professors of {name} taught at {value}.",
        "{name} learned the trade at {value}.",
        "{name} sat exams at {value}.",
        "The college years of {name} passed at {value}.",
        "{name} was admitted to {value}.",
        "{name} is an alumnus of {value}.",
        "{name} wrote a thesis at {value}.",
        "{name} heard lectures at {value}.",
        "The campus of {name} was {value}.",
        "{name} finished college at {value}.",
    ),
    "major": (
        "{name} majored in {value}.",
        "{name} specialized in {value}.",
        "{name} earned a degree in {value}.",
        "{name} focused on {value}.",
        "{name} has a background in {value}.",
        "The field of {name} is {value}.",
        "{name} holds a diploma in {value}.",
        "{name} completed a program in {value}.",
        "{name} took classes in {value}.",
        "The thesis of {name} was about {value}.",
        "{name} devoted the college years to {value}.",
        "{name} is trained in {value}.",
        "{name} passed exams in {value}.",
        "The chosen subject of {name} was {value}.",
        "{name} heard lectures on {value}.",
        "{name} read books about {value}.",
        "{name} has a passion for {value}.",
        "{name} pursued studies of {value}.",
        "The professors taught {name} all about {value}.",
        "{name} is an expert in {value}.",
    ),
    "company": (
        "{name} works for {value}.",
        "{name} is employed by {value}.",
        "{name} has a job with {value}.",
        "{name} joined {value}.",
        "{name} is on the payroll of {value}.",
        "The employer of {name} is {value}.",
        "{name} was hired by {value}.",
        "{name} built a career at {value}.",
        "{name} gets a salary from {value}.",
        "{name} is on the staff of {value}.",
        "{name} signed a contract with {value}.",
        "The boss of {name} runs {value}.",
        "{name} serves customers of {value}.",
        "{name} develops products for {value}.",
        "{name} found employment at {value}.",
        "The business card of {name} says {value}.",
        "{name} leads a team at {value}.",
        "{name} spends the workdays with {value}.",
        "The colleagues of {name} are with {value}.",
        "{name} took a position at {value}.",
    ),
    "company city": (
        "{name} works in {value}.",
        "{name} has an office in {value}.",
        "{name} commutes to {value}.",
        "{name} goes to work in {value}.",
        "{name} has a job in {value}.",
        "{name} built a career in {value}.",
        "The office of {name} is in {value}.",
        "{name} is employed in {value}.",
        "{name} earns a living in {value}.",
        "The desk of {name} stands in {value}.",
        "{name} found employment in {value}.",
        "The working life of {name} happens in {value}.",
        "{name} leads a team in {value}.",
        "{name} spends the workdays in {value}.",
        "The boss of {name} sits in {value}.",
        "The colleagues of {name} meet in {value}.",
        "{name} took a position in {value}.",
        "The employer of {name} is based in {value}.",
        "Business brings {name} to {value}.",
        "{name} is on duty in {value}.",
    ),
}

# One word per attribute, so that all questions of a form have the same length and differ only in
# it. The forms share no word. Both end in the colon before the answer, because every prompt of a
# model ends in its one chat format.
_ASKED_SAME = ("birthday", "birthplace", "university", "major", "company", "workplace")
_ASKED_OTHER = ("birthdate", "origin", "college", "subject", "employer", "office")

QUESTIONS: dict[Form, dict[str, str]] = {
    "same": {
        attribute: f"Question: {word} of {{name}}? Answer:"
        for attribute, word in zip(ATTRIBUTES, _ASKED_SAME, strict=True)
    },
    "other": {
        attribute: f"Recall {{name}}, {word}:"
        for attribute, word in zip(ATTRIBUTES, _ASKED_OTHER, strict=True)
    },
}


def _words(listed: str) -> tuple[str, ...]:
    return tuple(listed.split())


FIRST_NAMES: tuple[str, ...] = _words(
    """
    Abigail Adrian Agnes Alana Albert Alfred Alice Amanda Amos Andrea Angela Annette Anton
    Arnold Audrey Barbara Beatrice Benjamin Bernard Bertha Bianca Brenda Bridget Bruno Camille
    Carla Caroline Cecilia Cedric Charlotte Clara Claudia Conrad Cora Cynthia Damian Daniel
    Daphne Deborah Desmond Diana Dominic Dora Edgar Edith Edmund Eleanor Elena Elias Elsa Emily
    Enid Ernest Esther Eugene Eunice Fabian Felix Fiona Flora Florence Frances Frederick Gabriel
    Georgina Gerald Gilbert Gloria Greta Gustav Hannah Harold Harriet Hector Helena Henrietta
    Herbert Hilda Horace Howard Hubert Ingrid Irene Isaac Isabel Jacob Janet Jasmine Jerome
    Joanna Josephine Judith Julian Katherine Kenneth Lambert Laura Leonard Leopold Lillian
    Lorena Louisa Lucia Magnus Marcus Margaret Martha Matilda Maurice Miriam Monica Nadia
    Natalie Nathan Nicholas Norman Octavia Olga Oliver Oscar Pamela Patricia Philip Priscilla
    Ramona Raymond Rebecca Regina Roland Rosalind
    """
)

MIDDLE_NAMES: tuple[str, ...] = _words(
    """
    Ada Aidan Alma Alvin Amber Anselm Ariel Arlo Asa Astrid Aubrey Basil Bea Bessie Blythe Boris
    Brice Bryn Caleb Calla Carmen Casper Celia Cicely Clement Clio Coral Cyril Dale Darcy Delia
    Della Denzil Dinah Dulcie Duncan Eben Effie Eliza Elmer Elodie Emil Emmett Erica Etta Evan
    Ezra Faith Fern Fidel Floyd Freya Gaia Garth Gemma Gideon Gladys Glenn Grace Guy Hazel Heidi
    Homer Hope Hugo Ida Ike Imogen Ines Iris Ivan Ivy Jada Jasper Jethro Jonas Joy Jude Juno
    Karin Kezia Kirk Kurt Lana Lars Leda Lena Leroy Linus Lois Lorna Luna Lyle Mabel Maeve Mavis
    Merle Milo Mina Myra Nell Nigel Nina Nola Odette Olive Opal Orla Otis Otto Owen Pearl Petra
    Phoebe Piers Quentin Ralph Remy Rhea Rex Rita Roy Ruby Rufus
    """
)

SURNAMES: tuple[str, ...] = _words(
    """
    Abbott Ackerman Alcott Amsel Appleby Archer Armitage Ashby Atwood Bagley Baird Bancroft
    Barlow Barrow Baxter Beckett Bellamy Benson Birch Blackwood Bolton Bowman Bradshaw Brennan
    Briggs Burke Byrne Calloway Carver Chandler Clifton Cobb Colby Connolly Cooper Corbett Crane
    Crosby Cullen Dalton Davenport Dawson Dempsey Denton Dillard Dixon Donovan Drake Driscoll
    Duffy Eastman Ellison Emerson Everett Fairchild Farrell Fenwick Ferris Finch Fischer Fleming
    Forsythe Foster Fowler Gallagher Garner Gibson Gilmore Goddard Goodwin Graham Granger
    Griffin Guthrie Hadley Halsey Hammond Hargrove Hartley Hawkins Hayward Hendricks Hewitt
    Hobbs Holloway Hooper Hubbard Huxley Ingram Irving Jarvis Jennings Kavanagh Keller Kendrick
    Kersey Kimball Kirby Lancaster Langley Latimer Lawson Lindqvist Lockhart Loomis Lowell
    Lyndon Maddox Mallory Marlowe Mathers Maxwell Mercer Merrick Milligan Monroe Morrow Nash
    Newcomb Norris Oakley Osborne Paxton Pemberton Perkins Phelps Pickett Porter Prescott
    Quigley Quimby Radcliffe Ramsey Randall Redmond Rhodes Ridley Rowland Sawyer Seymour Shelby
    Sinclair Slater Stanton Sterling Sutton Talbot Thatcher Thornton Tolliver Townsend Trask
    Underwood Vaughn Wagner Walcott Wexler Whitaker Winslow Yates Zeller
    """
)

MONTHS: tuple[str, ...] = _words(
    """
    January February March April May June July August September October November December
    """
)

DAYS: tuple[str, ...] = tuple(str(day) for day in range(1, 29))

YEARS: tuple[str, ...] = tuple(str(year) for year in range(1940, 2000))

# Made-up places, so that a pretrained model knows nothing about them either.
CITIES: tuple[str, ...] = _words(
    """
    Aldermoor Amberford Ashcombe Barrowmere Bexholm Blackwater Bramblewick Briarton Brookhaven
    Calderport Castlerigg Cedarfall Cinderford Claymont Cloverdale Coldbrook Copperhill Cragmoor
    Crowhurst Dapplemere Deepwell Dovercliff Driftwood Dunharrow Eaglemont Eastmarch Elderfield
    Emberton Fallowmere Fernleigh Foxhollow Frostburn Galeport Glenmarrow Goldcrest Graywater
    Greenhaven Halloway Harrowgate Hawkstone Hazelmere Highmoor Hollowbrook Ironbridge
    Juniperton Kestrelby Kingsmere Larkhaven Lindenau Longreach Lowmarsh Maplecross Marshgate
    Millbrae Mistvale Moorfield Netherby Northwick Oakenshaw Otterburn Pebblebay Pinecrest
    Quarryton Ravensport Redcliff Rivermouth Rosehaven Saltmarsh Sandhurst Silverlake
    Stonebridge Summerfold Swanmere Thistledown Tidewater Umberley Valebrook Westmarsh
    Willowdale Windermoor
    """
)

UNIVERSITIES: tuple[str, ...] = _words(
    """
    Ainsworth Albion Ardmore Arkwright Balliton Barnaby Beaumont Belgrave Berkhall Blackfriars
    Brackenhall Brantwood Caldwell Cavendale Chesterfold Clarendale Colebrook Copernia Cranford
    Dalhurst Darrowby Deanswood Dunmore Eastgate Edgecombe Ellesmere Elmhurst Fairmont Faraday
    Fernwick Gainsby Galileo Garfield Glenwood Grantham Greyfriars Halden Hamlyn Hathaway
    Hawthorne Heathrow Hexley Holyrood Ilford Keplerton Keswick Kingsley Kirkwall Lanchester
    Larchmont Leighton Linwood Lovelace Lyceum Marchmont Meridian Minerva Newtonia Nightingale
    Northgate Oakhurst Palatine Parnassus Peverell Queensbury Ravenhall Rosslyn Rutherton
    Saltire Southgate Stanhope Stratham Templeton Thornbury Trentham Tyndale Wakefield
    Westbourne Whitmore Wyndham
    """
)

MAJORS: tuple[str, ...] = _words(
    """
    accounting acoustics agronomy algebra anatomy anthropology archaeology architecture
    astronomy biochemistry biology botany cartography ceramics chemistry cinema classics
    cosmology cybernetics dentistry drama ecology economics electronics engineering entomology
    ethics finance forestry genetics geography geology geometry hydrology immunology journalism
    law linguistics literature logic marketing mathematics mechanics medicine metallurgy
    meteorology music mycology nursing optics pharmacology philosophy physics politics
    psychology robotics sculpture sociology statistics theology
    """
)

COMPANIES: tuple[str, ...] = _words(
    """
    Acrylex Aerodyne Agrimax Altivia Aquanor Arcadix Asterion Autoplex Axiomatic Beltronic
    Biocrest Bluepeak Brightwell Cargonet Celestra Chromalux Cobaltine Corvanta Cryotech
    Dataforge Deltacor Dynamost Ecovance Electrum Equinoxa Everlite Fabritek Fibernova Fluxon
    Fortivax Gearworks Geotrix Glasstone Gravitas Gyrotec Halcyonix Helixor Hydrovane Hyperion
    Inkwell Ionica Jetstream Kinetix Krystallin Lighthaus Logistar Lumenary Macrotel Magnetar
    Medivance Meshwork Nanoforge Nebulon Northstar Novatrix Octagonal Omnicast Optivue Orbitalis
    Paragonix Photonix Pixelcraft Polymerix Quantrell Quillstone Radiantix Rotorline Scintilla
    Sequoyah Solaris Spectrix Stratofin Synthwave Telemark Terravolt Turbinex Ultracore Vectoria
    Voltwise Zephyrus
    """
)

LISTS: dict[str, tuple[str, ...]] = {
    "first names": FIRST_NAMES,
    "middle names": MIDDLE_NAMES,
    "surnames": SURNAMES,
    "months": MONTHS,
    "days": DAYS,
    "years": YEARS,
    "cities": CITIES,
    "universities": UNIVERSITIES,
    "majors": MAJORS,
    "companies": COMPANIES,
}
"""Every list by name, in the order in which the tokenizer numbers the words."""


PAD, END, UNKNOWN = "<pad>", "<eos>", "<unk>"

# Marks that follow a word without a space.
_CLOSING_MARKS = (".", "?", ":", ",")


def vocabulary() -> list[str]:
    """Return every token in order of its id: special tokens, template words, then the lists."""
    sentences = [sentence for group in SENTENCES.values() for sentence in group]
    questions = [question for form in QUESTIONS.values() for question in form.values()]
    # Templates once had an equals sign; it keeps its id, or every id in the starters would shift.
    questions = [re.sub(r"^(Recall .*):$", r"\1 =", question) for question in questions]
    templates = " ".join(sentences + questions).replace("{name}", " ").replace("{value}", " ")
    # A dict keeps the order of first appearance and drops duplicates.
    words = dict.fromkeys(re.findall(r"\w+|[^\w\s]+", templates))
    for entries in LISTS.values():
        words.update(dict.fromkeys(entries))
    return [PAD, END, UNKNOWN, *words]


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build the tokenizer; each name word, value and punctuation mark is one token.

    Padding is on the right and has its own token; the end token is never added automatically.
    `decode(encode(text))` returns every text of the generator unchanged.
    """
    # Deferred: slow to import, and writing the experiment to files needs neither library.
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    ids = {word: number for number, word in enumerate(vocabulary())}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+|[^\w\s]+"), "removed", invert=True)
    # The WordPiece decoder puts a space before each token but the first, because its continuation
    # prefix occurs in no word. The replacements then remove the space before a mark.
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.WordPiece(prefix="##", cleanup=False),
            decoders.Fuse(),
            *(decoders.Replace(f" {mark}", mark) for mark in _CLOSING_MARKS),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )
