"""The geoflow command: parse, build, call, print. What is interesting is in the library.

Each file holds a command or a group of them. Nothing heavy is imported before it is known which command runs, so
`geoflow --help` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

try:
    import tyro
except ModuleNotFoundError:  # the light install has no command
    raise SystemExit("geoflow: the command needs tyro; install it with: pip install 'geoflow[all]'") from None

from geoflow.cli.bench import BenchEnv, BenchLie, BenchSample, BenchTrain
from geoflow.cli.collect import Collect
from geoflow.cli.compare import Compare
from geoflow.cli.data import DataConvert, DataInfo
from geoflow.cli.demo import Demo
from geoflow.cli.errors import sentence
from geoflow.cli.evaluate import Evaluate
from geoflow.cli.export import Export
from geoflow.cli.teleop import Teleop
from geoflow.cli.train import Train
from geoflow.cli.view import View
from geoflow.experiments.config import load

COMMANDS: dict[str, type[Any]] = {
    "demo": Demo,
    "collect": Collect,
    "data info": DataInfo,
    "data convert": DataConvert,
    "train": Train,
    "evaluate": Evaluate,
    "compare": Compare,
    "export": Export,
    "view": View,
    "teleop": Teleop,
    "bench lie": BenchLie,
    "bench train": BenchTrain,
    "bench sample": BenchSample,
    "bench env": BenchEnv,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `geoflow ARGUMENTS`; what a user can mend ends in one sentence and exit code 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words or os.environ.get("GEOFLOW_DEBUG", "") not in ("", "0")
    try:
        _run([word for word in words if word != "--debug"])
    except KeyboardInterrupt as error:
        said = str(error) or "interrupted; the same command continues where it was."
        print(f"\ngeoflow: {said}", file=sys.stderr)
        sys.exit(130)
    except (ValueError, ArithmeticError, OSError, ImportError) as error:
        if debug:
            raise
        print(f"geoflow: {sentence(error)}", file=sys.stderr)
        sys.exit(2)


def _run(words: list[str]) -> None:
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return
    if words[0] == "--version":
        from geoflow import __version__

        print(f"geoflow {__version__}")
        return
    name, command = _command(words)
    rest = words[len(name.split()) :]
    options = _parse(name, command, rest)
    if getattr(options, "seed", 0) < 0:
        raise ValueError(f"seed={options.seed}; it is 0 or more.")
    made = options.run()
    if made is not None:
        print(made)


def _parse(name: str, command: type[Any], words: list[str]) -> Any:
    """The command's options: defaults, changed by the YAML files among ``words``, then by the other words."""
    return tyro.cli(
        command,
        prog=f"geoflow {name}",
        description=f"{(command.__doc__ or '').strip()}\n\nExample: {command.example}",
        args=words,
        default=command.defaults(load(_yaml_files(words))),
    )


def _yaml_files(words: list[str]) -> list[Path]:
    """The words that are YAML files and not the value of an option."""
    found = []
    for before, word in zip(["", *words], words, strict=False):
        option = before.startswith("--") and "=" not in before
        if word.endswith((".yaml", ".yml")) and not word.startswith("-") and not option:
            found.append(Path(word))
    return found


def _command(words: list[str]) -> tuple[str, type[Any]]:
    """The command that the first one or two words name."""
    for count in (2, 1):
        name = " ".join(words[:count])
        if name in COMMANDS:
            return name, COMMANDS[name]
    below = [name for name in COMMANDS if name.startswith(words[0] + " ")]
    if below:
        raise ValueError(f"geoflow {words[0]} needs one more word: {', '.join(below)}.")
    close = get_close_matches(words[0], COMMANDS, 1)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(COMMANDS)}."
    raise ValueError(f"unknown command {words[0]!r}; {hint}")


def _overview() -> str:
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:<{width}}{command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: geoflow COMMAND [OPTIONS]",
            "",
            "Flow matching on Lie groups for robot action chunks.",
            "",
            *lines,
            "",
            "geoflow COMMAND --help shows a command's options; --debug, or GEOFLOW_DEBUG=1, shows tracebacks.",
        ]
    )
