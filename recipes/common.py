"""What recipes share: settings that are flags too, presets, and errors without traces.

A recipe describes its settings as a frozen dataclass made of `setting(…)` fields and
its presets as a dict of such objects. As its last line it calls `common.run(main,
PRESETS)`, which gives it a flag per field, `--preset`, `--workdir`, `--overwrite` and
`--help`; with `commands` also a command as its first argument.
"""

import dataclasses
import math
import shlex
import sys
import typing
from pathlib import Path

from absl import app, flags, logging

from zoo.specs import check_fields

DEFAULT_FOLDER = "runs"
# Flags whose values say where things lie on a machine, and nothing of the results.
PLACES = ("workdir", "data_dir", "output", "teacher")


class SettingError(ValueError):
    """A setting that cannot be: what users get to read in place of a traceback.

    Args:
        name: str, the setting.
        rule: str, what it must be, such as "be at least 1".
        value: what it is.
    """

    def __init__(self, name, rule, value):
        self.name, self.rule, self.value = name, rule, value
        super().__init__(f"`{name}` must {rule}. Received: {name}={value}")

    def as_flag(self):
        """The message in terms of the command line."""
        value = self.value
        if isinstance(value, tuple):
            value = ",".join(map(str, value))
        return f"--{self.name} must {self.rule}. Received: --{self.name}={value}"


def setting(default, description):
    """A field of a recipe's settings, with the text that `--help` gives."""
    return dataclasses.field(default=default, metadata={"help": description})


@dataclasses.dataclass(frozen=True)
class Settings:
    """Base of a recipe's settings.

    Fields are bool, int, float, str or tuples of them; `| None` for those that may
    be none, which a flag says as "none".
    """

    def __post_init__(self):
        for name, value in self.as_dict().items():
            items = value if isinstance(value, tuple) else (value,)
            numbers = [item for item in items if isinstance(item, float)]
            self.require(name, all(map(math.isfinite, numbers)), "be finite")

    def require(self, name, holds, rule):
        """Raises `SettingError` unless `holds`."""
        if not holds:
            raise SettingError(name, rule, getattr(self, name))

    def require_at_least(self, low, *names):
        """Raises `SettingError` for the first of some numbers below `low`."""
        for name in names:
            self.require(name, getattr(self, name) >= low, f"be at least {low}")

    def require_among(self, known, *names):
        """Raises `SettingError` for the first of some settings that is not known.

        Of a tuple, every entry must be.
        """
        choices = ", ".join(filter(None, known))
        for name in names:
            value = getattr(self, name)
            if isinstance(value, tuple):
                holds, rule = set(value) <= set(known), f"name {name} among {choices}"
            else:
                holds, rule = value in known, f"be one of {choices}"
            self.require(name, holds, rule)

    def with_changes(self, **changes):
        """The settings with some fields replaced.

        Raises:
            ValueError: an unknown field (the closest are listed) or a value that it
                does not allow.
        """
        names = [field.name for field in dataclasses.fields(self)]
        check_fields(changes, names, type(self).__name__)
        return dataclasses.replace(self, **changes)

    def as_dict(self):
        """{name: value} of all fields."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}


@dataclasses.dataclass(frozen=True)
class Options:
    """How a recipe was called, besides its settings.

    Attributes:
        preset: str, name of the preset.
        workdir: `Path` or None, the folder to write to.
        overwrite: bool, whether runs found there are thrown away.
        command: str or None, what to do, for recipes that can do several things.
    """

    preset: str = "demo"
    workdir: Path | None = None
    overwrite: bool = False
    command: str | None = None


def run(main, presets, commands=()):
    """Runs a recipe from the command line.

    Args:
        main: callable `(settings, options)`.
        presets: {name: `Settings`}; the first is the default. All of one class.
        commands: names of what the recipe can do, the first is the default; without
            them no command is taken.
    """
    names = list(presets)
    script = sys.argv[0]  # the module that `--help` shows the flags of
    flags.DEFINE_enum(
        "preset", names[0], names, "Settings to start from.", module_name=script
    )
    flags.DEFINE_string(
        "workdir",
        None,
        f"Folder for all that is written. Default: {DEFAULT_FOLDER}/{Path(script).stem}"
        "/<preset>_tf<line>.",
        module_name=script,
    )
    flags.DEFINE_boolean(
        "overwrite",
        False,
        "Throw away the runs found in the workdir. Default: finished ones are kept.",
        module_name=script,
    )
    _define_setting_flags(presets, script)
    app.run(lambda arguments: _call(main, presets, commands, arguments))


def settings_from_flags(presets):
    """The settings of `--preset` with the changes that other flags ask for."""
    chosen = presets[flags.FLAGS.preset]
    given = {
        field.name: flags.FLAGS[field.name].value
        for field in dataclasses.fields(chosen)
        if flags.FLAGS[field.name].present
    }
    return chosen.with_changes(**given)


def folder(name):
    """`Path` that a flag names, `~` taken for the home folder; None where none does.

    Raises:
        SettingError: a URL.
    """
    text = flags.FLAGS[name].value
    if not text:
        return None
    if "://" in text:
        raise SettingError(name, "be a local or mounted folder or file", text)
    return Path(text).expanduser()


def command_line(arguments=None):
    """The command that was given, to be written beside what came of it.

    Folders of the machine are left out.

    >>> command_line(["some/recipes/cifar_one.py", "train", "--data_dir=~/mine"])
    'python recipes/cifar_one.py train --data_dir=…'

    Args:
        arguments: list of str, script first. Default: those of this process.
    """
    script, *rest = sys.argv if arguments is None else arguments
    words, hidden = ["python", f"recipes/{Path(script).name}"], False
    for word in rest:
        name, equals, _ = word.partition("=")
        is_place = name.startswith("-") and name.lstrip("-") in PLACES
        if hidden:
            words.append("…")
        elif is_place and equals:
            words.append(f"{name}=…")
        else:
            words.append(shlex.quote(word))
        hidden = is_place and not equals
    return " ".join(words)


def same_command():
    """What to give to go on, at the start of a sentence."""
    overwrites = "overwrite" in flags.FLAGS and flags.FLAGS["overwrite"].value
    return "The same command" + ", but without --overwrite," * bool(overwrites)


def _call(main, presets, commands, arguments):
    if not flags.FLAGS["verbosity"].present:
        # Notes are for who asks. Nor is it news that each model traces functions of
        # its own, of which TensorFlow warns after a few.
        logging.set_verbosity(logging.ERROR)
    try:
        options = Options(
            flags.FLAGS.preset,
            folder("workdir"),
            flags.FLAGS.overwrite,
            _command(commands, arguments[1:]),
        )
        main(settings_from_flags(presets), options)
    except SettingError as error:
        sys.exit(error.as_flag())
    except KeyboardInterrupt:
        sys.exit(
            f"Stopped. {same_command()} goes on from here: finished runs are kept."
        )


def _command(commands, arguments):
    if not commands:
        rule = "Only flags are taken, as --name=value."
    else:
        rule = (
            f"One command is taken, {', '.join(commands)}, and flags as --name=value."
        )
        if not arguments:
            return commands[0]
        if len(arguments) == 1 and arguments[0] in commands:
            return arguments[0]
    if arguments:
        sys.exit(f"{rule} Received: {' '.join(arguments)}")
    return None


class _OptionalParser(flags.ArgumentParser):
    """Parses "none" into None and leaves the rest to another parser."""

    def __init__(self, parser):
        self._parser = parser
        self.syntactic_help = f'{parser.syntactic_help}, or "none"'

    def parse(self, argument):
        is_none = str(argument).lower() == "none"
        return None if is_none else self._parser.parse(argument)

    def flag_type(self):
        return self._parser.flag_type()


class _TupleParser(flags.ArgumentParser):
    """Parses "0,-1.5" into a tuple; an empty text into an empty one."""

    def __init__(self, kind):
        self._kind = kind
        self.syntactic_help = f"a comma separated list of {kind.__name__}s"

    def parse(self, argument):
        if isinstance(argument, tuple):
            return argument
        parts = [part.strip() for part in argument.split(",")] if argument else []
        try:
            return tuple(self._kind(part) for part in parts)
        except ValueError as error:
            raise ValueError(f"must be {self.syntactic_help}") from error

    def flag_type(self):
        return f"list of {self._kind.__name__}"


def _define_setting_flags(presets, script):
    kind = type(next(iter(presets.values())))
    for field in dataclasses.fields(kind):
        values = {name: getattr(preset, field.name) for name, preset in presets.items()}
        text = f"{field.metadata['help']} {_defaults(values)}"
        parser = parser_of(kind, field.name)
        if isinstance(parser, flags.BooleanParser):
            flags.DEFINE_boolean(field.name, None, text, module_name=script)
        else:
            flags.DEFINE(parser, field.name, None, text, module_name=script)


def parser_of(kind, name):
    """The absl parser of the texts that a field takes on the command line.

    Args:
        kind: subclass of `Settings`.
        name: str, the field.
    """
    return _parser(typing.get_type_hints(kind)[name])


def _parser(wanted):
    if typing.get_origin(wanted) is tuple:
        return _TupleParser(typing.get_args(wanted)[0])
    if type(None) in typing.get_args(wanted):
        return _OptionalParser(_parser(typing.get_args(wanted)[0]))
    parsers = {
        bool: flags.BooleanParser,
        int: flags.IntegerParser,
        float: flags.FloatParser,
        str: flags.ArgumentParser,
    }
    return parsers[wanted]()


def _defaults(values):
    """'[500; smoke: 100]' for the values by preset."""
    (_, first), *others = values.items()
    parts = [_text(first)]
    parts += [f"{name}: {_text(value)}" for name, value in others if value != first]
    return f"[{'; '.join(parts)}]"


def _text(value):
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
