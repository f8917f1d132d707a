"""The words that people and their facts are made of.

Knows the lists alone, each entry one plain word and in one list only, so that every name and
every attribute value is a fixed number of tokens. Knows nothing of sentences or of who has what.
"""

from __future__ import annotations


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

# Places are made up, so that a pretrained model knows nothing of them either.
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
"""Every list by its name, in the order in which the tokenizer numbers the words."""
