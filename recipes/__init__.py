"""One file per experiment, run from a checkout: `python recipes/<name>.py --help`.

Python puts the script's own folder on its path, not the checkout. So every script,
here and in `benchmarks`, has the checkout put first before its imports of ours:

    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout

First, so that `datasets` is ours even where Hugging Face's is installed.
"""
