"""Robot files that are broken in every way: seeded mutants of good ones, and bombs."""

from __future__ import annotations

import os
import struct
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np

import assets

GYMNASIUM = files("gymnasium") / "envs" / "mujoco" / "assets"
SOURCES = [Path(assets.path(name)).read_bytes() for name in ("hand.xml", "point.xml", "quadruped.xml", "runner.xml")]
SOURCES += [(GYMNASIUM / name).read_bytes() for name in ("ant.xml", "half_cheetah.xml")]

NUMBERS = [
    "1e308",
    "-1e308",
    "1e30",
    "-1",
    "0",
    "-0.0",
    "1e-308",
    "nan",
    "inf",
    "-inf",
    "99999999999999",
    "0x10",
    "1,5",
]
NUMBERS += ["", "1 2 3 4 5 6 7 8 9 10", "NaN", "1e400"]

Mutation = Callable[[bytes, np.random.Generator], bytes]


def flip_bits(text: bytes, rng: np.random.Generator) -> bytes:
    data = bytearray(text)
    for place in rng.integers(len(data), size=int(rng.integers(1, 3))):
        data[place] ^= 1 << int(rng.integers(8))
    return bytes(data)


def change_digits(text: bytes, rng: np.random.Generator) -> bytes:
    """Still XML, nearly always; digits of one number may turn into a sign or a point."""
    data = bytearray(text)
    digits = [place for place, byte in enumerate(data) if byte in b"0123456789"]
    for place in rng.choice(digits, size=int(rng.integers(1, 6))):
        data[place] = b"0123456789123456789-.e"[int(rng.integers(22))]
    return bytes(data)


def put_bytes(text: bytes, rng: np.random.Generator) -> bytes:
    place = int(rng.integers(len(text)))
    return text[:place] + rng.bytes(int(rng.integers(1, 40))) + text[place:]


def truncate(text: bytes, rng: np.random.Generator) -> bytes:
    return text[: int(rng.integers(len(text)))]


def _structure(change: Callable[[ElementTree.Element, np.random.Generator], None]) -> Mutation:
    """One to three changes of the tree."""

    def mutation(text: bytes, rng: np.random.Generator) -> bytes:
        root = ElementTree.fromstring(text)
        for _ in range(int(rng.integers(1, 4))):
            change(root, rng)
        return ElementTree.tostring(root)

    return mutation


def _pick(root: ElementTree.Element, rng: np.random.Generator) -> tuple[ElementTree.Element, int]:
    """A random element, as its parent and its place there."""
    places = [(parent, n) for parent in root.iter() for n in range(len(parent))]
    return places[int(rng.integers(len(places)))] if places else (root, -1)


def _attribute(root: ElementTree.Element, rng: np.random.Generator) -> tuple[ElementTree.Element, str]:
    places = [(element, name) for element in root.iter() for name in element.attrib]
    return places[int(rng.integers(len(places)))]


def drop_element(root: ElementTree.Element, rng: np.random.Generator) -> None:
    parent, n = _pick(root, rng)
    if n >= 0:
        del parent[n]


def repeat_element(root: ElementTree.Element, rng: np.random.Generator) -> None:
    """Its names are then there twice."""
    parent, n = _pick(root, rng)
    if n >= 0:
        parent.insert(n, parent[n])


def move_element(root: ElementTree.Element, rng: np.random.Generator) -> None:
    parent, n = _pick(root, rng)
    if n >= 0:
        moved = parent[n]
        del parent[n]
        homes = list(root.iter())
        homes[int(rng.integers(len(homes)))].append(moved)


def rename_element(root: ElementTree.Element, rng: np.random.Generator) -> None:
    tags = sorted({element.tag for element in root.iter()})
    parent, n = _pick(root, rng)
    if n >= 0:
        parent[n].tag = tags[int(rng.integers(len(tags)))]


def drop_attribute(root: ElementTree.Element, rng: np.random.Generator) -> None:
    element, name = _attribute(root, rng)
    del element.attrib[name]


def swap_attributes(root: ElementTree.Element, rng: np.random.Generator) -> None:
    (one, first), (other, second) = _attribute(root, rng), _attribute(root, rng)
    one.attrib[first], other.attrib[second] = other.attrib[second], one.attrib[first]


def break_number(root: ElementTree.Element, rng: np.random.Generator) -> None:
    """One number of an attribute, or all of it, becomes something absurd."""
    places = [(e, name) for e in root.iter() for name, value in e.attrib.items() if value[:1] in "-.0123456789"]
    if not places:
        return
    element, name = places[int(rng.integers(len(places)))]
    parts = element.attrib[name].split() or ["0"]
    parts[int(rng.integers(len(parts)))] = NUMBERS[int(rng.integers(len(NUMBERS)))]
    element.attrib[name] = " ".join(parts)


def scale_number(root: ElementTree.Element, rng: np.random.Generator) -> None:
    """Every number of an attribute times a power of ten, now and then negative: plausible, and often unstable."""
    element, name = _attribute(root, rng)
    try:
        numbers = np.array(element.attrib[name].split(), dtype=float)
    except ValueError:
        return
    factor = 10.0 ** rng.integers(-6, 7) * (-1 if rng.random() < 0.2 else 1)
    element.attrib[name] = " ".join(f"{number:.12g}" for number in numbers * factor)


def break_reference(root: ElementTree.Element, rng: np.random.Generator) -> None:
    """A name, or what refers to one, becomes another."""
    names = {"name", "joint", "class", "childclass", "site", "body", "geom", "material", "texture", "mesh", "target"}
    places = [(element, name) for element in root.iter() for name in element.attrib if name in names]
    if places:
        element, name = places[int(rng.integers(len(places)))]
        element.attrib[name] = ["nobody", "", "world", "\u00fc" * 300, "a/../b"][int(rng.integers(5))]


MUTATIONS: dict[str, Mutation] = {
    mutation.__name__: mutation for mutation in (flip_bits, change_digits, put_bytes, truncate)
}
for _change in (drop_element, repeat_element, move_element, rename_element, drop_attribute, swap_attributes):
    MUTATIONS[_change.__name__] = _structure(_change)
for _change in (break_number, scale_number, break_reference):
    MUTATIONS[_change.__name__] = _structure(_change)


def mutant(number: int) -> tuple[str, bytes]:
    """The kind and the text of mutant 0, 1, 2, ...: every kind comes in turn, and every source in each kind."""
    names = list(MUTATIONS)
    kind, source = names[number % len(names)], SOURCES[(number // len(names) + number) % len(SOURCES)]
    return kind, MUTATIONS[kind](source, np.random.default_rng([5, number]))


# -- bombs: each writes files into a folder and returns the path to load -----------------------------------------------


def _model(folder: Path, inside: str, before: str = "") -> Path:
    path = folder / "bomb.xml"
    path.write_text(f"{before}<mujoco>{inside}</mujoco>", encoding="utf-8")
    return path


def entities(folder: Path) -> Path:
    rows = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    return _model(
        folder, "<worldbody><geom name='&l11;' size='1'/></worldbody>", f'<!DOCTYPE m [<!ENTITY l0 "ha">{rows}]>'
    )


def nested_replicate(folder: Path) -> Path:
    inside = "<geom size='.1'/>"
    for n in range(8):
        inside = f"<replicate count='100' offset='0 0 {n}'>{inside}</replicate>"
    return _model(folder, f"<worldbody>{inside}</worldbody>")


def huge_replicate(folder: Path) -> Path:
    body = "<body><freejoint/><geom size='.1'/></body>"
    return _model(folder, f"<worldbody><replicate count='2000000000' offset='0 0 1'>{body}</replicate></worldbody>")


def slow_replicate(folder: Path) -> Path:
    """Not absurd, and still more than the compiler finishes."""
    body = "<body><freejoint/><geom size='.1'/></body>"
    return _model(folder, f"<worldbody><replicate count='60000' offset='0 0 1'>{body}</replicate></worldbody>")


def huge_hfield(folder: Path) -> Path:
    field = "<asset><hfield name='h' nrow='100000' ncol='100000' size='1 1 1 1'/></asset>"
    return _model(folder, f"{field}<worldbody><geom type='hfield' hfield='h'/></worldbody>")


def lying_hfield(folder: Path) -> Path:
    (folder / "h.bin").write_bytes(struct.pack("<ii", 2**31 - 1, 2**31 - 1))
    field = "<asset><hfield name='h' file='h.bin' size='1 1 1 1'/></asset>"
    return _model(folder, f"{field}<worldbody><geom type='hfield' hfield='h'/></worldbody>")


def huge_texture(folder: Path) -> Path:
    texture = "<asset><texture name='t' type='2d' builtin='checker' width='200000' height='200000'/></asset>"
    return _model(folder, f"{texture}<worldbody><geom size='1'/></worldbody>")


def lying_mesh(folder: Path) -> Path:
    (folder / "m.stl").write_bytes(b"\0" * 80 + struct.pack("<I", 2**32 - 1) + b"\0" * 50)
    return _model(
        folder, "<asset><mesh name='m' file='m.stl'/></asset><worldbody><geom type='mesh' mesh='m'/></worldbody>"
    )


def huge_mesh(folder: Path) -> Path:
    """A convex hull of half a million points on a sphere."""
    points = np.random.default_rng(0).normal(size=(500_000, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    (folder / "m.obj").write_text("".join(f"v {x:.6f} {y:.6f} {z:.6f}\n" for x, y, z in points) + "f 1 2 3\n")
    return _model(
        folder, "<asset><mesh name='m' file='m.obj'/></asset><worldbody><geom type='mesh' mesh='m'/></worldbody>"
    )


def flexcomp(folder: Path) -> Path:
    grid = "<flexcomp name='f' type='grid' dim='3' count='2000 2000 2000' spacing='.1 .1 .1'/>"
    return _model(folder, f"<worldbody>{grid}</worldbody>")


def include_itself(folder: Path) -> Path:
    return _model(folder, "<include file='bomb.xml'/>")


def attach_itself(folder: Path) -> Path:
    asset = "<asset><model name='m' file='bomb.xml'/></asset>"
    return _model(
        folder, f"{asset}<worldbody><body name='b'><attach model='m' body='b' prefix='x'/></body></worldbody>"
    )


def include_device(folder: Path) -> Path:
    return _model(folder, "<include file='/dev/zero'/>")


def include_fifo(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.xml")
    return _model(folder, "<include file='pipe.xml'/>")


def mesh_fifo(folder: Path) -> Path:
    os.mkfifo(folder / "m.stl")
    return _model(folder, "<asset><mesh file='m.stl'/></asset><worldbody><geom type='mesh' mesh='m'/></worldbody>")


def outside(folder: Path) -> Path:
    return _model(folder, "<compiler meshdir='../../../../../..'/><asset><mesh name='m' file='etc/passwd'/></asset>")


def link_outside(folder: Path) -> Path:
    (folder / "part.xml").symlink_to("/etc/passwd")
    return _model(folder, "<include file='part.xml'/>")


def fifo_beside_part(folder: Path) -> Path:
    (folder / "arm").mkdir()
    os.mkfifo(folder / "arm" / "t.png")
    (folder / "arm" / "a.xml").write_text("<mujoco><asset><texture name='t' type='2d' file='t.png'/></asset></mujoco>")
    return _model(folder, "<include file='arm/a.xml'/>")


def nested_bodies(folder: Path) -> Path:
    """100 MB, millions of levels deep."""
    return _model(folder, f"<worldbody>{'<body>' * 7_700_000}{'</body>' * 7_700_000}</worldbody>")


def deep_bodies(folder: Path) -> Path:
    """15 MB: as large as it may be."""
    return _model(folder, f"<worldbody>{'<body>' * 1_100_000}{'</body>' * 1_100_000}</worldbody>")


def plugin(folder: Path) -> Path:
    extension = "<extension><plugin plugin='nobody.wrote.this'><instance name='i'/></plugin></extension>"
    return _model(folder, f"{extension}<worldbody><geom size='1'/></worldbody>")


def huge_arena(folder: Path) -> Path:
    return _model(folder, "<size memory='500G'/><worldbody><body><freejoint/><geom size='1'/></body></worldbody>")


def slow_steps(folder: Path) -> Path:
    """A heap of boxes, all in one place: every step finds a hundred thousand contacts."""
    body = "<body><freejoint/><geom type='box' size='.1 .1 .1'/></body>" * 300
    return _model(folder, f"<size memory='500M'/><worldbody><geom type='plane' size='1 1 1'/>{body}</worldbody>")


def fifo_itself(folder: Path) -> Path:
    os.mkfifo(folder / "bomb.xml")
    return folder / "bomb.xml"


def folder_itself(folder: Path) -> Path:
    (folder / "bomb.xml").mkdir()
    return folder / "bomb.xml"


BOMBS: list[Callable[[Path], Path]] = [
    nested_replicate,
    include_fifo,
    entities,
    outside,
    huge_replicate,
    slow_replicate,
    huge_hfield,
    lying_hfield,
    huge_texture,
    lying_mesh,
    huge_mesh,
    flexcomp,
    include_itself,
    attach_itself,
    include_device,
    mesh_fifo,
    link_outside,
    fifo_beside_part,
    nested_bodies,
    deep_bodies,
    plugin,
    huge_arena,
    slow_steps,
    fifo_itself,
    folder_itself,
]
