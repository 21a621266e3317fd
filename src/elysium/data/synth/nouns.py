"""The words for cut-outs: which names are used, what they are called, and which may be taken for each other.

Knows English nouns only; knows nothing of pixels or files. A name that would mislead is mapped to nothing
(`None`): a wrong word in a training clip costs more than a missing one.
"""

from __future__ import annotations

import re
from functools import lru_cache

PATCH_NOUN = "patch"
REGION_NOUN = "region"

SPRITE_GROUPS = frozenset(
    {"activities", "animals-nature", "food-drink", "objects", "people-body", "travel-places"}
)

DROPPED_SUBGROUPS = frozenset(
    {
        "family",
        "person-gesture",
        "person-symbol",
        "person-resting",
        "hand-prop",
        "place-geographic",
        "game-suit",
        "hotel",
    }
)

DROPPED = frozenset(
    """mahjong red dragon|joker|cyclone|rainbow|milky way|shooting star|fog|wind face|comet|high voltage|foggy
    night with stars|sunrise over mountains|sunrise|cityscape at dusk|sunset|bridge at night|cityscape
    hot springs
    camping|beach with umbrella|desert|desert island|national park|world map|map of japan|cooking|mate|ice
    pouring liquid|clinking beer mugs|clinking glasses|party popper|confetti ball|tanabata tree
    pine decoration
    japanese dolls|moon viewing ceremony|reminder ribbon|admission tickets|sparkles|fireworks|sparkler
    prayer beads|level slider|control knobs|musical note|musical notes|musical score|film frames
    camera with flash
    magnifying glass tilted right|cricket game|field hockey|ice hockey|goal net|flag in hole|running shirt
    performing arts|link|hammer and wrench|hammer and pick|knot|spade suit|club suit|heart suit|diamond suit
    flower playing cards|label|page facing up|bookmark tabs|ledger|chains|paw prints|pig nose|spider web
    feather
    wing|microbe|eyes|ear with hearing aid|mechanical arm|mechanical leg|biting lip|drop of blood|x-ray|mouth
    adhesive bandage|money with wings|chart increasing with yen|receipt|suspension railway|mountain cableway
    aerial tramway|airplane departure|airplane arrival|optical disk|dvd|low battery|card index
    chart increasing
    chart decreasing|bar chart|linked paperclips|card index dividers|black nib|mobile phone with arrow|pager
    petri dish|dna|muted speaker|speaker low volume|speaker medium volume|speaker high volume|bell with slash
    outbox tray|inbox tray|e-mail|incoming envelope|envelope with arrow|locked with pen|locked with key|kaaba
    nazar amulet|hamsa|placard|identification card|station|bus stop|construction|motorway|railway track
    mountain railway|building construction|houses|wedding|love hotel|post office|bank|hotel|convenience store
    department store|hospital|school|japanese post office|derelict house|office building|metro|light rail|oden
    moai|elevator|couch and lamp|ring|anatomical heart|bubbles|mouse trap|window|shower
    umbrella on ground|umbrella with rain drops
    closed umbrella|water wave|thermometer|new moon face|first quarter moon face|last quarter moon face
    full moon face|sun with face|yarn|thread|leaf fluttering in wind|fallen leaf|white flower
    wilted flower|blossom
    rosette|herb|sheaf of rice|empty nest|fondue|shaved ice|custard|sake|broken chain|baby angel|mx claus
    hair pick|white cane|headstone|page with curl|bowling|tennis|badminton|ping pong|lacrosse|softball|bug
    no one under eighteen|shallow pan of food|leafy green|roasted sweet potato|fish cake with swirl
    horse racing
    men with bunny ears|women with bunny ears|people with bunny ears|men wrestling|women wrestling
    people wrestling|flatbread|stuffed flatbread|ram|ewe|wood|mirror ball|martial arts uniform
    seat""".replace("\n", "|").split("|")
)
DROPPED = frozenset(name.strip() for name in DROPPED)

RENAMED = {
    # sprites
    "pool 8 ball": "pool ball", "game die": "dice", "bullseye": "target", "chess pawn": "chess piece",
    "nesting dolls": "nesting doll", "glowing star": "star", "ringed planet": "planet", "fire": "flame",
    "waxing crescent moon": "moon", "new moon": "moon", "first quarter moon": "moon", "full moon": "moon",
    "waxing gibbous moon": "moon", "waning gibbous moon": "moon", "last quarter moon": "moon",
    "waning crescent moon": "moon", "crescent moon": "moon", "sun behind small cloud": "cloud",
    "sun behind large cloud": "cloud", "sun behind rain cloud": "cloud", "cloud with rain": "cloud",
    "cloud with snow": "cloud", "cloud with lightning": "cloud", "cloud with lightning and rain": "cloud",
    "sun behind cloud": "cloud", "snowman without snow": "snowman", "globe showing europe-africa": "globe",
    "globe showing americas": "globe", "globe showing asia-australia": "globe",
    "globe with meridians": "globe",
    "meat on bone": "meat", "cut of meat": "meat", "poultry leg": "chicken leg", "pot of food": "pot",
    "baguette bread": "baguette", "green salad": "salad", "bowl with spoon": "bowl", "cheese wedge": "cheese",
    "canned food": "can", "ear of corn": "corn", "hot pepper": "chili pepper", "ginger root": "ginger",
    "beans": "bean", "peanuts": "peanut", "evergreen tree": "tree", "deciduous tree": "tree",
    "four leaf clover": "clover", "shamrock": "clover", "maple leaf": "leaf", "nest with eggs": "nest",
    "red apple": "apple", "green apple": "apple", "cherries": "cherry", "kiwi fruit": "kiwi",
    "blueberries": "blueberry", "cooked rice": "bowl of rice", "curry rice": "curry", "steaming bowl": "bowl",
    "fried shrimp": "shrimp", "soft ice cream": "ice cream", "doughnut": "donut", "birthday cake": "cake",
    "shortcake": "cake", "fork and knife with plate": "plate", "kitchen knife": "knife", "amphora": "jar",
    "teacup without handle": "cup", "cocktail glass": "cocktail", "tropical drink": "cocktail",
    "bottle with popping cork": "bottle", "tumbler glass": "glass", "glass of milk": "glass",
    "cup with straw": "cup", "beverage box": "juice box", "hot beverage": "cup", "wrapped gift": "gift",
    "jack-o-lantern": "pumpkin", "christmas tree": "tree", "carp streamer": "streamer",
    "graduation cap": "cap", "billed cap": "cap", "woman’s hat": "hat", "woman’s clothes": "shirt",
    "man’s shoe": "shoe", "running shoe": "shoe", "flat shoe": "shoe", "woman’s sandal": "sandal",
    "thong sandal": "sandal", "woman’s boot": "boot", "hiking boot": "boot", "gem stone": "gem",
    "shopping bags": "shopping bag", "military helmet": "helmet", "rescue worker’s helmet": "helmet",
    "folding hand fan": "fan", "1st place medal": "medal", "2nd place medal": "medal",
    "3rd place medal": "medal",
    "sports medal": "medal", "military medal": "medal", "studio microphone": "microphone",
    "red paper lantern": "lantern", "television": "tv", "magnifying glass tilted left": "magnifying glass",
    "diya lamp": "oil lamp", "fishing pole": "fishing rod", "american football": "football",
    "rugby football": "football", "diving mask": "diving mask", "flying disc": "frisbee",
    "artist palette": "palette", "framed picture": "picture", "sewing needle": "needle",
    "musical keyboard": "piano keyboard", "long drum": "drum", "motorcycle": "motorbike",
    "racing car": "race car", "railway car": "train", "high-speed train": "train", "bullet train": "train",
    "tram car": "tram", "oncoming bus": "bus", "trolleybus": "bus", "minibus": "van",
    "fire engine": "fire truck",
    "oncoming police car": "police car", "oncoming taxi": "taxi", "automobile": "car",
    "oncoming automobile": "car",
    "sport utility vehicle": "car", "articulated lorry": "truck", "horizontal traffic light": "traffic light",
    "vertical traffic light": "traffic light", "police car light": "siren", "oil drum": "barrel",
    "kick scooter": "scooter", "motor scooter": "scooter", "auto rickshaw": "rickshaw",
    "motorized wheelchair": "wheelchair", "manual wheelchair": "wheelchair", "fuel pump": "gas pump",
    "house with garden": "house", "classical building": "temple", "japanese castle": "castle",
    "tokyo tower": "tower", "statue of liberty": "statue", "notebook with decorative cover": "notebook",
    "closed book": "book", "open book": "book", "green book": "book", "blue book": "book",
    "orange book": "book",
    "rolled-up newspaper": "newspaper", "bow and arrow": "bow", "carpentry saw": "saw",
    "crossed swords": "swords",
    "balance scale": "scale", "nut and bolt": "bolt", "black cat": "cat", "service dog": "dog",
    "guide dog": "dog",
    "two-hump camel": "camel", "rhinoceros": "rhino", "sauropod": "brontosaurus", "t-rex": "dinosaur",
    "spiral shell": "shell", "spouting whale": "whale", "honeybee": "bee", "lady beetle": "ladybug",
    "cricket": "cricket insect", "hatching chick": "chick", "baby chick": "chick",
    "front-facing baby chick": "chick", "black bird": "bird", "computer disk": "disk",
    "electric plug": "plug",
    "desktop computer": "computer monitor", "open file folder": "folder", "file folder": "folder",
    "tear-off calendar": "calendar", "spiral calendar": "calendar", "round pushpin": "pushpin",
    "straight ruler": "ruler", "triangular ruler": "ruler", "card file box": "box",
    "spiral notepad": "notepad",
    "memo": "notepad", "telephone receiver": "telephone", "mobile phone": "cellphone",
    "cell phone": "cellphone",
    "satellite antenna": "satellite dish", "alembic": "flask", "postal horn": "horn",
    "closed mailbox with lowered flag": "mailbox", "closed mailbox with raised flag": "mailbox",
    "open mailbox with raised flag": "mailbox", "open mailbox with lowered flag": "mailbox",
    "ballot box with ballot": "ballot box", "old key": "key", "locked": "padlock", "unlocked": "padlock",
    "shinto shrine": "shrine", "mantelpiece clock": "clock", "timer clock": "timer",
    "hourglass done": "hourglass", "hourglass not done": "hourglass", "funeral urn": "urn",
    "small airplane": "airplane", "flying saucer": "ufo", "ring buoy": "lifebuoy", "motor boat": "boat",
    "passenger ship": "ship", "roll of paper": "toilet paper", "bellhop bell": "bell",
    "flexed biceps": "arm", "red envelope": "envelope", "piñata": "pinata", "lotion bottle": "bottle",
    "package": "box",
    "yen banknote": "banknote", "dollar banknote": "dollar bill", "euro banknote": "banknote",
    "pound banknote": "banknote", "chart": "picture", "santa claus": "santa claus", "mrs. claus": "woman",
    "tomato": "tomato", "wheel": "tire", "globe": "globe", "bridal veil": "bride",
    # photographic
    "dalmatian dog": "dalmatian", "garfield toy": "garfield", "snoopy toy": "snoopy",
    "binocular": "binoculars",
    "headphone": "headphones", "sea horse": "seahorse", "hawksbill": "turtle", "bass": "fish",
    "yin yang symbol": "yin yang", "cougar face": "cougar", "crocodile head": "crocodile",
    "flamingo head": "flamingo", "ibis": "ibis", "ketch": "sailboat", "schooner": "sailboat",
    "tie": "necktie",
    "sailboat": "sailboat", "electric guitar": "guitar", "ewer": "jug", "luggage": "suitcase",
    "buddha": "buddha statue",
    "dining table": "table", "euphonium": "tuba", "cougar": "cougar", "inline skate": "roller skate",
}  # fmt: skip

_PEOPLE = re.compile(r"^(man|woman|person|men|women|people)\b")
_ROLES = frozenset(
    """farmer cook student singer artist teacher mechanic scientist pilot astronaut firefighter judge
    detective guard
    ninja prince princess superhero supervillain mage fairy vampire merman mermaid elf genie zombie
    snowboarder skier fencer""".split()
)

FAMILIES: dict[str, str] = {
    "person": """person man woman boy girl baby child face bride santa claus cook farmer student singer
    artist teacher
    mechanic scientist pilot astronaut firefighter judge detective guard ninja prince princess superhero
    supervillain mage fairy vampire merman mermaid elf genie zombie snowboarder skier fencer troll statue""",
    "dog": "dog dalmatian poodle wolf fox snoopy",
    "cat": "cat leopard cougar tiger lion garfield lynx",
    "car": "car taxi van ambulance tractor truck bus jeep rickshaw fire-truck pickup-truck",
    "boat": "boat ship ferry sailboat speedboat canoe",
    "bird": """bird pigeon emu ibis flamingo rooster chicken chick duck owl eagle swan dove parrot peacock
    turkey goose penguin dodo""",
    "dinosaur": "dinosaur brontosaurus stegosaurus",
    "insect": """ant tick mayfly dragonfly fly bee ladybug beetle cockroach mosquito spider scorpion butterfly
    cricket-insect trilobite""",
    "shellfish": "crab lobster crayfish shrimp scorpion",
    "deer": "deer okapi antelope moose kangaroo goat llama camel giraffe",
    "cattle": "cow ox bison water-buffalo",
    "horse": "horse zebra donkey unicorn",
    "pig": "pig boar",
    "rodent": "mouse rat hamster chipmunk beaver platypus otter squirrel hedgehog badger skunk raccoon",
    "bear": "bear panda koala polar-bear teddy-bear",
    "ape": "monkey gorilla orangutan",
    "elephant": "elephant mammoth",
    "fish": "fish shark dolphin whale blowfish tropical-fish",
    "reptile": "crocodile lizard dragon",
    "flower": "flower sunflower rose tulip lotus water-lily hibiscus cherry-blossom bouquet hyacinth",
    "plant": "plant tree bonsai cactus potted-plant joshua-tree palm-tree seedling",
    "clock": "clock watch alarm-clock stopwatch timer",
    "ball": "ball soccer-ball basketball football volleyball baseball pool-ball crystal-ball globe",
    "shoe": "shoe boot sandal sock socks roller-skate ice-skate ballet-shoes high-heeled-shoe",
    "hat": "hat cap top-hat helmet crown",
    "cup": "cup glass wine-glass cocktail beer-mug bowl jug teapot vase jar urn bubble-tea bottle",
    "bag": "bag handbag backpack purse suitcase briefcase shopping-bag clutch-bag basket",
    "phone": "phone cellphone telephone",
    "computer": "laptop computer-monitor tv keyboard",
    "guitar": "guitar mandolin banjo violin",
    "horn": "saxophone tuba trumpet horn gramophone",
    "piano": "grand-piano piano-keyboard keyboard",
    "camera": "camera video-camera movie-camera film-projector",
    "lamp": "lamp chandelier lantern ceiling-fan candle oil-lamp light-bulb menorah flashlight",
    "building": "house building castle pagoda minaret church mosque synagogue temple tower hut shrine",
    "bike": "motorbike bicycle scooter wheelchair",
    "train": "train tram locomotive monorail",
    "plane": "airplane helicopter rocket satellite ufo",
    "book": "book books notebook notepad newspaper scroll calendar bookmark",
    "cake": "cake cupcake pie pancakes waffle moon-cake donut bagel cookie pretzel",
    "bread": "bread baguette croissant sandwich hamburger hot-dog burrito taco",
    "orange": "orange tangerine lemon apple peach mango tomato melon pear kiwi",
    "berry": "strawberry cherry blueberry grapes",
    "knife": "knife sword swords dagger axe saw",
    "tool": "wrench hammer screwdriver clamp",
    "pen": "pen fountain-pen pencil crayon paintbrush",
    "money": "banknote dollar-bill coin credit-card money-bag",
    "gun": "revolver cannon water-pistol",
    "clothes": "t-shirt shirt coat lab-coat dress kimono sari swimsuit jeans shorts safety-vest",
    "glasses": "glasses sunglasses goggles binoculars",
    "box": "box gift juice-box takeout-box bento-box",
    "bed": "bed couch",
    "chair": "chair wheelchair bench",
    "star": "star starfish sun",
    "round": "circle oval ring lifebuoy moon",
    "four": "square rectangle diamond parallelogram",
    "cross": "cross plus",
    "mail": "envelope mailbox postbox",
    "barrel": "barrel bucket can",
    "rice": "bowl-of-rice curry salad spaghetti",
    "umbrella": "umbrella parachute",
    "board": "skateboard surfboard snowboard skis",
    "shell": "shell nautilus snail oyster",
    "fridge": "refrigerator oven microwave",
    "sofa": "couch bed chair",
}  # fmt: skip


@lru_cache(maxsize=1)
def _families() -> dict[str, frozenset[str]]:
    table: dict[str, set[str]] = {}
    for family, members in FAMILIES.items():
        names = members.replace("santa claus", "santa-claus").split()
        for member in names:
            table.setdefault(member.replace("-", " ") if member != "t-shirt" else member, set()).add(family)
    return {noun: frozenset(families) for noun, families in table.items()}


@lru_cache(maxsize=65536)
def confusable(first: str, second: str) -> bool:
    """Whether a thing called `first` might also be meant by `second`, or the other way round (symmetric).

    >>> confusable("dog", "dalmatian"), confusable("fire truck", "truck"), confusable("dog", "pizza")
    (True, True, False)
    """
    if first == second:
        return True
    a, b = set(first.split()), set(second.split())
    if first.split()[-1] == second.split()[-1] or a <= b or b <= a:
        return True
    table = _families()
    return bool(table.get(first, frozenset()) & table.get(second, frozenset()))


_PHOTO_WORDS = {
    "chelsea": "cat", "astronaut": "person face astronaut", "friends": "person", "coffee": "cup spoon",
    "motorcycle": "motorbike", "seeding": "plant", "baboon": "monkey", "aloe": "plant", "path": "tree",
    "garden": "flower", "ladybird": "ladybug", "fruits": "orange apple grapes banana",
    "rubberwhale": "toy shell",
    "leuven": "car building", "home": "house", "cups": "cup", "kleiber": "bird", "china": "building pagoda",
    "leaf": "leaf", "stands": "flower", "life": "flower", "wine": "wine-glass grapes", "summer": "tree",
    "bridge": "bridge", "building": "building house", "orange": "orange", "apple": "apple", "kite": "kite",
    "flower": "flower", "butterfly": "butterfly", "dragonfly": "dragonfly", "rocket": "rocket",
    "board": "computer", "brick": "brick",
}  # fmt: skip


@lru_cache(maxsize=1024)
def photo_nouns(file_name: str) -> tuple[str, ...]:
    """What a background shows that its file name tells of ("opencv_fruits.jpg" -> orange, apple, ...)."""
    name = file_name.lower()
    found = [noun for word, nouns in _PHOTO_WORDS.items() if word in name for noun in nouns.split()]
    return tuple(noun.replace("-", " ") for noun in found)


def plain_noun(name: str) -> str:
    """A category name as a short lower-case noun ("Motorbikes" -> "motorbike", "car_side" -> "car")."""
    noun = name.lower().replace("_", " ").strip()
    caltech = {"faces": "face", "faces easy": "face", "motorbikes": "motorbike", "airplanes": "airplane",
               "car side": "car", "leopards": "leopard", "sea horse": "seahorse"}  # fmt: skip
    noun = caltech.get(noun, noun)
    return RENAMED.get(noun, noun)


def sprite_noun(name: str, group: str, subgroup: str) -> str | None:
    """The noun for a sprite, or None when its name would be no good description of what one sees."""
    name = name.lower().strip()
    if group not in SPRITE_GROUPS or subgroup in DROPPED_SUBGROUPS or name in DROPPED:
        return None
    if "skin tone" in name or "o’clock" in name or "-thirty" in name:
        return "clock" if "o’clock" in name else None
    if subgroup.startswith("hand"):
        return "hand"
    if group == "people-body" and subgroup.startswith("person"):
        return _person_noun(name)
    if name.endswith(" face"):
        name = name[: -len(" face")]
    noun = RENAMED.get(name, name)
    return None if ":" in noun or len(noun.split()) > 3 or "’" in noun else noun


def _person_noun(name: str) -> str | None:
    last = name.replace(":", "").split()[-1]
    if last in _ROLES:
        return last
    match = _PEOPLE.match(name)
    if match:
        return {"men": None, "women": None, "people": None}.get(match.group(1), match.group(1))
    return name if name in {"boy", "girl", "baby", "child", "santa claus", "troll"} else "person"
