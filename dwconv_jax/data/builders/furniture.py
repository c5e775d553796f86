"""The furniture catalogues of Sweet Home 3D: what is in them, of which class, and its surface."""

import dataclasses
import pathlib
import re
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np

from dwconv_jax.data.point_cloud.files import sample_mesh
from dwconv_jax.errors import UserError

# Each class: what its items' category and name match, and what their names must not. The first
# class that matches is an item's. Four are whole categories of the catalogue.
_CLASSES = (
    ("person", "Characters", "male|female|boy|girl", ""),
    ("vehicle", "Vehicles", "", "bicycle|bike|skateboard|stroller|tricycle|fork"),
    ("lamp", "Lights", "", ""),
    ("door", "Doors and windows", "door|window", ""),  # windows too
    ("switch", "Miscellaneous|Bedroom", "plug|switch|socket", ""),  # sockets too
    (
        "plant",
        "Exterior|Living room",
        "tree|plant|bamboo|cactus|ficus|acacia|bush|pine|beech|cypress|maple|poplar|yucca|flowers|"
        "orchids|tulips|lily|blossom",
        "box",
    ),
    ("sofa", "", "sofa|couch|armchair", "ottoman"),
    ("chair", "", "chair|class seat", "armchair|wheel"),
    ("bed", "Bedroom", r"\bbed\b|crib|futon|mattress", ""),
    ("table", "Living room|Office|Exterior|Kitchen", r"\btable\b|desk", ""),
    (
        "cabinet",
        "",
        "cabinet|wardrobe|cupboard|dresser|vanity|chest$|bedside|shelves|bookcase",
        "",
    ),
    (
        "appliance",
        "Kitchen",
        "oven|fridge|refrigerator|washing machine|dryer|stove|cooker|microwave|freezer|hood",
        "",
    ),
    (
        "vessel",
        "Kitchen|Bathroom|Miscellaneous",
        r"cup\b|mug|glass\b|bottle|\bpot\b|vase|teapot|jar|flacon|creamer|milk|bowl",
        "cake|plate",
    ),
    ("bath", "", "basin|lavatory|sink|urinal|bidet|toilets unit|bath$|bathtub", ""),
)
CLASSES = tuple(sorted(name for name, *_ in _CLASSES))
_ENTRY = re.compile(r"(\w+)#(\d+)\s*=\s*(.*)")
_CATALOGUE = "PluginFurnitureCatalog.properties"


@dataclasses.dataclass(frozen=True)
class Item:
    """A model of a catalogue that has a class.

    Attributes:
      id: of the item, unique among all catalogues, such as "Scopia#bathroom3".
      label: one of `CLASSES`.
      file: the catalogue, a `.sh3f` archive.
      model: the path of its OBJ file in the archive.
      rotation: float32 `[3, 3]`, to be applied to the model's points.
    """

    id: str
    label: str
    file: pathlib.Path
    model: str
    rotation: np.ndarray


def list_items(folder: pathlib.Path) -> list[Item]:
    """The items with a class in all catalogues of a folder, in the order of their ids.

    Raises:
      FileNotFoundError: the folder has no catalogue.
      UserError: a file is no catalogue.
    """
    files = sorted(folder.glob("*.sh3f"))
    if not files:
        raise FileNotFoundError(
            f"{folder} has no .sh3f files; Debian's package has them: `apt-get install "
            "sweethome3d-furniture` puts them into /usr/share/sweethome3d/furniture"
        )
    items = [item for file in files for item in _items_of(file)]
    return sorted(items, key=lambda item: item.id)


def _items_of(file: pathlib.Path) -> Iterator[Item]:
    try:
        with zipfile.ZipFile(file) as archive:
            text = archive.read(_CATALOGUE).decode("latin-1")
    except (zipfile.BadZipFile, KeyError) as error:
        raise UserError(f"{file} is no furniture catalogue: {error}") from error
    entries: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        if match := _ENTRY.match(line):
            entries.setdefault(match[2], {})[match[1]] = match[3].strip()
    for entry in entries.values():
        if label := classify(entry["category"], entry["name"]):
            rotation = entry.get("modelRotation", "1 0 0 0 1 0 0 0 1").split()
            yield Item(
                id=entry["id"],
                label=label,
                file=file,
                model=entry["model"].lstrip("/"),
                rotation=np.array(rotation, np.float32).reshape(3, 3),
            )


def classify(category: str, name: str) -> str | None:
    """The class of an item by its category and name; None for none."""
    name = name.lower()
    for label, categories, words, others in _CLASSES:
        if (
            re.search(categories, category)
            and re.search(words, name)
            and not (others and re.search(others, name))
        ):
            return label
    return None


def sample_points(item: Item, count: int) -> np.ndarray:
    """Random points on the surface of an item, every area alike.

    They are around the origin, and the farthest is at a distance of 1. The second axis points up.

    Args:
      item: of `list_items`.
      count: how many.

    Returns:
      float32 `[count, 3]`, the same on every call.

    Raises:
      UserError: the archive has no such model, or it has no surface.
    """
    with zipfile.ZipFile(item.file) as archive:
        try:
            content = archive.read(item.model)
        except KeyError as error:
            raise UserError(f"{item.file} lacks {item.model}, the model of {item.id}") from error
    name, seed = f"{item.model} in {item.file}", zlib.crc32(item.id.encode())
    points = sample_mesh(content, name, count, seed)
    return normalize(points @ item.rotation.T)


def normalize(points: np.ndarray) -> np.ndarray:
    """Moves the mean of points `[N, 3]` to the origin, and the farthest one to a distance of 1."""
    centered = points - points.mean(0)
    radius = np.linalg.norm(centered, axis=1).max()
    return (centered / (radius if radius > 0 else 1)).astype(np.float32)
