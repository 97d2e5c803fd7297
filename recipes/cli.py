"""The console command `zoo`: knows the scripts by name, and imports one only when it is called."""

import importlib
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from zoo.errors import InputError
from zoo.registry import unknown_name

COMMANDS = {
    "finetune": "turn a pretrained network into a classifier of your images",
    "train": "train a network from scratch",
    "search": "which hyperparameters suit your images",
    "study": "what each kind of pooling does to accuracy, cost and time",
    "evaluate": "measure a finished run on its test split, or on other images",
    "predict": "classify image files with a finished run",
    "visualize": "what a finished run looks at in an image",
    "export": "write a finished run as a SavedModel for serving",
    "serve": "serve an export on this machine, as TensorFlow Serving does",
    "benchmark-export": "how fast an export is, next to the usual one and to other runtimes",
    "list": "which models the zoo has",
    "describe": "what a network costs, layer by layer",
    "compare": "what networks, depths and kinds of layer cost, side by side",
    "cache": "what runs keep of frozen layers, and what may go",
    "copy": "put a copy of a recipe before you, to change",
}
RECIPES = (
    "finetune",
    "train",
    "search",
    "study",
    "evaluate",
    "predict",
    "visualize",
    "export",
    "serve",
    "describe",
    "compare",
)
# Scripts that cannot have the name of their command, because Python has that name already or cannot have it.
SCRIPTS = {"list": "list_models", "benchmark-export": "benchmark_export"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: The words after `zoo`; those of this process if None.

    Returns:
        The exit code: 0, 2 for bad input, 1 for a failure, 130 when interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return 0 if words else 2
    command, rest = words[0], words[1:]
    if command == "copy":
        return copy(rest)
    if command not in COMMANDS:
        print(f"error: {unknown_name('command', command, COMMANDS)}", file=sys.stderr)
        return 2
    return int(importlib.import_module(f"recipes.{SCRIPTS.get(command, command)}").main(rest))


def console() -> None:
    """Run the command of this process, and end it.

    At once: to take TensorFlow and all that it holds apart, as Python does at its end, takes a second or two, in which
    nothing is done that the system does not do by itself. What a command writes is in its files by then.
    """
    code = main()
    with suppress(OSError):  # whoever read it has gone
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def usage() -> str:
    """What `zoo --help` prints."""
    lines = ["usage: zoo COMMAND [...]", "", "From a folder of images to a classifier.", ""]
    lines += [f"  {name:<16} {what}" for name, what in COMMANDS.items()]
    lines += ["", "`zoo COMMAND --help` shows the flags of a command. Begin with `zoo finetune`."]
    return "\n".join(lines)


def copy(words: Sequence[str]) -> int:
    """`zoo copy RECIPE FILE`: put a recipe's script where the user can change it; never over an existing file."""
    try:
        usage = f"usage: zoo copy RECIPE FILE.py, where RECIPE is one of: {', '.join(RECIPES)}"
        if words and words[0] in ("-h", "--help"):
            print(usage)
            return 0
        if len(words) != 2:
            raise InputError(usage)
        recipe, target = words[0], Path(words[1])
        if recipe not in RECIPES:
            raise unknown_name("recipe", recipe, RECIPES)
        source = Path(__file__).with_name(f"{recipe}.py").read_text(encoding="utf-8")
        try:
            with target.open("x", encoding="utf-8") as file:
                file.write(source)
        except FileExistsError:
            raise InputError(f"{target} exists already. Choose another name") from None
        except OSError as error:
            raise InputError(f"Cannot write {target}: {error.strerror}") from None
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{target}: change it, then run it with `python {os.path.normpath(target)}`")
    return 0


if __name__ == "__main__":
    console()
