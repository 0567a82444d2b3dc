r"""What options for training bring: peak memory and seconds of a training step.

    python benchmarks/acceleration.py            # about 30 minutes on 2 cores
    python benchmarks/acceleration.py --smoke    # tiny, only to see that it runs

ResNet-50 with two heads at 224 x 224, 16 images for each step of the optimizer: as it
is; under mixed_bfloat16; compiled by XLA; with gradients accumulated over 4 batches of
4 images; with activations computed again (`recompute_activations`); and the last one
with the others. Keras 2 cannot compute them again, so there those have no lines.

Each is trained in a process of its own. `peak_mb` is the most memory that this process
ever held (`ru_maxrss`), `step_mb` what steps and their compilation added to the most
that it held before the first one. Seconds are the median of its steps but the first.

In a round each option has its turn. Ratios are to the process without options in the
same round, on the clock and of CPU time in all threads, and of `step_mb`; the median
over the rounds is reported.

Writes benchmarks/results/acceleration_<TensorFlow line>.csv.
"""

import dataclasses
import json
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags, logging
from rich.console import Console
from rich.progress import track

from benchmarks import paired_timing, recording, training_steps
from benchmarks.paired_timing import CLOCKS
from benchmarks.two_headed import two_headed
from ensemble_heads import provenance
from ensemble_heads.keras_api import KERAS_3, keras

NONE = "none"
MEBIBYTE = 2**20

FLAGS = flags.FLAGS


@dataclasses.dataclass(frozen=True)
class Option:
    """How a model is trained; `batches` of equal size make a step of the optimizer."""

    policy: str = "float32"
    xla: bool = False
    batches: int = 1
    recompute: bool = False


OPTIONS = {
    NONE: Option(),
    "mixed_bfloat16": Option(policy="mixed_bfloat16"),
    "XLA": Option(xla=True),
    "accumulation over 4": Option(batches=4),
    "recomputation": Option(recompute=True),
    "recomputation, mixed_bfloat16": Option(policy="mixed_bfloat16", recompute=True),
    "recomputation, XLA": Option(xla=True, recompute=True),
    "recomputation, accumulation": Option(batches=4, recompute=True),
}
SMOKE = {"name": "cifar_resnet20", "blocks": (1, 1, 1)}


def train(option, network, examples, steps):
    """Trains in this process.

    Args:
        option: `Option`.
        network: dict, the arguments of `two_headed`.
        examples: int, for each step of the optimizer.
        steps: int, those that count; one comes before.

    Returns:
        dict: `peak_mb`, `step_mb`, the last `loss`, and the median of each of `CLOCKS`.
    """
    keras.utils.set_random_seed(0)
    keras.mixed_precision.set_global_policy(option.policy)
    model = two_headed(**network)
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        "sparse_categorical_crossentropy",
        gradient_accumulation_steps=option.batches,
        recompute_activations=option.recompute,
        jit_compile=option.xla,
    )
    shape, size = model.trunk.input_shape[1:], examples // option.batches
    batches = training_steps.random_batches(shape, size)
    before, losses = _peak(), []
    take = training_steps.stepper(model, batches, first_steps=option.batches)

    def step():
        logs = [take() for _ in range(option.batches)][-1]
        losses.append(float(logs["loss"]))

    taken = [paired_timing.timed(step) for _ in range(steps)]
    medians = {c: statistics.median(one[c] for one in taken) for c in CLOCKS}
    peak = _peak()
    return {"peak_mb": peak, "step_mb": peak - before, "loss": losses[-1], **medians}


def _peak():
    """Mebibytes that this process held at most, so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / MEBIBYTE


def in_a_process(name, network, examples, steps):
    """What `train` returns, by a process that runs nothing else.

    Raises:
        RuntimeError: it failed; with what it wrote.
    """
    arguments = json.dumps([name, network, examples, steps])
    ended = subprocess.run(
        [sys.executable, __file__, f"--alone={arguments}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise RuntimeError(f"{name} failed:\n{ended.stderr[-4000:]}")
    return json.loads(ended.stdout.splitlines()[-1])


def summarise(found):
    """List of dict, a line of the CSV file per option.

    Args:
        found: {name: list of what `train` returns, one per round}.
    """
    lines = []
    for name, rounds in found.items():
        line = {"option": name, **dataclasses.asdict(OPTIONS[name])}
        for key in ("peak_mb", "step_mb", *CLOCKS):
            values = [one[key] for one in rounds]
            ratios = [a / one[key] for a, one in zip(values, found[NONE])]
            line[key] = statistics.median(values)
            line[f"{key}_ratio"] = statistics.median(ratios)
        line["loss"] = rounds[-1]["loss"]
        lines.append(line)
    return lines


def render(lines, title):
    """`rich.table.Table` of the lines."""
    columns = ("option", "peak MB", "of steps", "ratio", "seconds", "ratio")
    table = recording.table(title, (*columns, "CPU ratio"))
    for line in lines:
        table.add_row(
            line["option"],
            f"{line['peak_mb']:.0f}",
            f"{line['step_mb']:.0f}",
            f"{line['step_mb_ratio']:.2f}",
            f"{line['seconds']:.3f}",
            f"{line['seconds_ratio']:.2f}",
            f"{line['cpu_seconds_ratio']:.2f}",
        )
    return table


def define_flags():
    flags.DEFINE_string("model", "resnet50", "The single network, by its zoo name.")
    flags.DEFINE_integer("examples", 16, "Images per step; 4 divides it.", 4)
    flags.DEFINE_integer("steps", 6, "Steps that count, per process.", lower_bound=1)
    flags.DEFINE_integer("rounds", 3, "Processes per option.", lower_bound=1)
    flags.DEFINE_multi_enum("options", list(OPTIONS), list(OPTIONS), "What to compare.")
    flags.DEFINE_bool("smoke", False, "A tiny network and few steps.")
    flags.DEFINE_string("alone", None, "Used by the processes that this one starts.")
    recording.define_output("acceleration")


def main(_):
    logging.set_verbosity(logging.ERROR)
    if FLAGS.alone:
        name, *arguments = json.loads(FLAGS.alone)
        print(json.dumps(train(OPTIONS[name], *arguments)))
        return
    console = Console(highlight=False)
    network, examples = {"name": FLAGS.model}, FLAGS.examples
    steps, rounds = FLAGS.steps, FLAGS.rounds
    if examples % 4:
        raise app.UsageError(f"4 must divide `examples`. Received: examples={examples}")
    if FLAGS.smoke:
        network, examples, steps, rounds = SMOKE, 4, 2, 1
    names = [
        name
        for name, option in OPTIONS.items()
        if name in {NONE, *FLAGS.options} and (KERAS_3 or not option.recompute)
    ]
    load = recording.busy_before()
    found = {name: [] for name in names}
    for name in track(names * rounds, "options", transient=True):
        found[name].append(in_a_process(name, network, examples, steps))
    lines = summarise(found)
    made_with = provenance.describe()
    title = (
        f"{network['name']} with two heads, {examples} images a step, {rounds} rounds, "
        f"TensorFlow {made_with['tensorflow']}, {made_with['machine']}"
    )
    console.print(render(lines, title))
    path = recording.path_of("acceleration", FLAGS.output)
    settings = {
        "model": network["name"],
        "examples": examples,
        "steps": steps,
        "rounds": rounds,
        "load_before": load,
    }
    recording.keep(path, [{**line, **settings, **made_with} for line in lines], console)


if __name__ == "__main__":
    define_flags()
    app.run(main)
