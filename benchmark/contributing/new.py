"""A new entry from a template: a commented .gin file and, where code is needed, a module with a small working example."""

import keyword
import re
from pathlib import Path
from typing import Literal, NamedTuple

from benchmark.declaring import imports, registry
from benchmark.errors import UsageError
from benchmark.files import write_text

Axis = Literal["model", "layout", "dataset"]
UNSAID = "say here in one line what it is"  # of the first line of every template
TEMPLATES = Path(__file__).resolve().parent / "templates"


class Template(NamedTuple):
    """What a new entry is made from; `code` is None where a module of the registry serves."""

    entry: str
    code: str | None


MODEL = Template("model.gin", "model.py")
WINDOWS = Template("layout.gin", None)
LAYOUT = Template("layout_code.gin", "layout_code.py")
GENERATED = Template("dataset.gin", "dataset.py")
FOLDER = Template("dataset_folder.gin", None)


def write(axis: Axis, name: str, template: Template, root: Path) -> list[Path]:
    """Write the files of a new entry under `root` and return them; raise UsageError rather than replace or shadow one."""
    folder = root / registry.FOLDERS[axis]
    texts = {folder / f"{name}.gin": template.entry} | ({folder / f"{name}.py": template.code} if template.code else {})
    _refuse_name(axis, name, root)
    if there := next((path for path in texts if path.exists()), None):
        raise UsageError(f"{there} is there already, and nothing is ever overwritten. Choose another name, or edit it.")
    if template.code:
        _refuse_module(axis, name, template.code, root)
    module = f"registry.{folder.name}.{name}" if root.resolve() == registry.STOCK else name
    for path, source in texts.items():
        text = (TEMPLATES / source).read_text(encoding="utf-8").replace(f"My{axis.title()}", class_name(name))
        write_text(path, text.replace(f"import my_{axis}", f"import {module}").replace(f"my_{axis}", name))
    return list(texts)


def class_name(name: str) -> str:
    """Return the name of the class of an entry: my_bias -> MyBias."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def _refuse_name(axis: Axis, name: str, root: Path) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise UsageError(f"'{name}' cannot name a {axis}: small letters, digits and '_', a letter first, no word of Python, as in my_bias.")
    stock = registry.entries(axis)
    if name in stock and root.resolve() != registry.STOCK:
        raise UsageError(
            f"The project has a {axis} '{name}' already ({stock[name].path}), and two files must not claim one name. Choose another name."
        )


def _refuse_module(axis: Axis, name: str, template: str, root: Path) -> None:
    """Refuse a name under which Python would find another module, or which the module's own code needs."""
    for folder in registry.FOLDERS.values():
        if (other := root / folder / f"{name}.py").exists():
            raise UsageError(f"{other} is a module of that name already, and Python keeps one of a name. Choose another name.")
    if root.resolve() != registry.STOCK and (there := imports.namesake(name, root / f"{name}.py")):
        raise UsageError(f"A module called '{name}' is installed already ({there}), and Python keeps one of a name. Choose another name.")
    words = set(re.findall(r"\w+", (TEMPLATES / template).read_text(encoding="utf-8")))
    if class_name(name) in words - {f"My{axis.title()}"}:
        raise UsageError(f"The class would be called {class_name(name)}, which the code uses for something else. Choose another name.")
