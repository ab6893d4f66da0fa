# SPDX-License-Identifier: Apache-2.0
"""Facts of the real world. A cell is left empty ("-") where a careful reader could give two answers."""

# country, capital, continent, main language, currency
COUNTRIES = """
France          Paris           Europe          French      euro
Germany         Berlin          Europe          German      euro
Italy           Rome            Europe          Italian     euro
Spain           Madrid          Europe          Spanish     euro
Portugal        Lisbon          Europe          Portuguese  euro
Austria         Vienna          Europe          German      euro
Greece          Athens          Europe          Greek       euro
Ireland         Dublin          Europe          -           euro
Finland         Helsinki        Europe          -           euro
Sweden          Stockholm       Europe          Swedish     krona
Norway          Oslo            Europe          Norwegian   krone
Denmark         Copenhagen      Europe          Danish      krone
Iceland         Reykjavik       Europe          Icelandic   krona
Poland          Warsaw          Europe          Polish      zloty
Hungary         Budapest        Europe          Hungarian   forint
Romania         Bucharest       Europe          Romanian    leu
Bulgaria        Sofia           Europe          Bulgarian   -
Croatia         Zagreb          Europe          Croatian    euro
Slovakia        Bratislava      Europe          Slovak      euro
Slovenia        Ljubljana       Europe          Slovene     euro
Czechia         Prague          Europe          Czech       koruna
Ukraine         Kyiv            Europe          Ukrainian   hryvnia
Russia          Moscow          -               Russian     ruble
Turkey          Ankara          -               Turkish     lira
Egypt           Cairo           Africa          Arabic      pound
Morocco         Rabat           Africa          -           dirham
Tunisia         Tunis           Africa          Arabic      dinar
Algeria         Algiers         Africa          -           dinar
Libya           Tripoli         Africa          Arabic      dinar
Kenya           Nairobi         Africa          -           shilling
Uganda          Kampala         Africa          -           shilling
Ghana           Accra           Africa          -           cedi
Nigeria         Abuja           Africa          -           naira
Senegal         Dakar           Africa          -           franc
Zambia          Lusaka          Africa          -           kwacha
Angola          Luanda          Africa          Portuguese  kwanza
Japan           Tokyo           Asia            Japanese    yen
China           Beijing         Asia            Chinese     yuan
India           New_Delhi       Asia            -           rupee
Nepal           Kathmandu       Asia            Nepali      rupee
Thailand        Bangkok         Asia            Thai        baht
Vietnam         Hanoi           Asia            Vietnamese  dong
South_Korea     Seoul           Asia            Korean      won
Iran            Tehran          Asia            Persian     rial
Iraq            Baghdad         Asia            -           dinar
Jordan          Amman           Asia            Arabic      dinar
Pakistan        Islamabad       Asia            -           rupee
Canada          Ottawa          North_America   -           dollar
Mexico          -               North_America   Spanish     peso
Cuba            Havana          North_America   Spanish     peso
Brazil          Brasilia        South_America   Portuguese  real
Argentina       Buenos_Aires    South_America   Spanish     peso
Chile           Santiago        South_America   Spanish     peso
Peru            Lima            South_America   -           sol
Uruguay         Montevideo      South_America   Spanish     peso
Australia       Canberra        -               English     dollar
"""

# animal, class, young, sound
ANIMALS = """
dog         mammal      puppy       bark
cat         mammal      kitten      meow
horse       mammal      foal        neigh
cow         mammal      calf        moo
sheep       mammal      lamb        bleat
goat        mammal      kid         bleat
pig         mammal      piglet      grunt
lion        mammal      cub         roar
tiger       mammal      cub         roar
bear        mammal      cub         growl
wolf        mammal      pup         howl
deer        mammal      fawn        -
kangaroo    mammal      joey        -
elephant    mammal      calf        trumpet
whale       mammal      calf        -
donkey      mammal      foal        bray
mouse       mammal      -           squeak
hen         bird        chick       cluck
duck        bird        duckling    quack
goose       bird        gosling     honk
swan        bird        cygnet      -
owl         bird        owlet       hoot
eagle       bird        eaglet      -
penguin     bird        chick       -
crow        bird        -           caw
frog        amphibian   tadpole     croak
toad        amphibian   tadpole     croak
snake       reptile     -           hiss
lizard      reptile     -           -
crocodile   reptile     -           -
salmon      fish        -           -
shark       fish        pup         -
bee         insect      -           buzz
ant         insect      -           -
butterfly   insect      caterpillar -
"""

# Each word stands in one pair only, and none is so common that an answer would hold it by chance.
OPPOSITES = """
hot cold, big small, tall short, old young, fast slow, happy sad, light dark, wet dry, full empty, high low,
near far, hard soft, loud quiet, rich poor, strong weak, early late, clean dirty, thick thin,
wide narrow, push pull, win lose, buy sell, love hate, north south, east west, top bottom, inside outside,
 safe dangerous, sweet sour, awake asleep, deep shallow, smooth rough, day night, summer winter,
war peace, question answer, begin end
"""

MONTHS = """
January February March April May June July August September October November December
"""

WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"
