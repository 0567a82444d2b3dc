"""Settings and presets of the YouTube-8M recipe."""

import dataclasses

import zoo
from datasets import youtube8m
from recipes.common import setting
from recipes.ensemble_weights import EnsembleSettings

MODELS = tuple(
    n for n in zoo.names() if n.startswith(("dbof", "nextvlad", "youtube8m"))
)


@dataclasses.dataclass(frozen=True)
class Config(EnsembleSettings):
    """Settings of a training run; each is a flag."""

    models: tuple[str, ...] = setting(
        ("dbof_2heads",), f"Models, each a run per seed: {', '.join(MODELS)}."
    )
    distillation_weight: float | None = setting(
        2.0, "mu of the co-distillation loss; none for the ensembling loss."
    )
    data_dir: str = setting("", "Folder or URL of the shards.")
    train_files: tuple[str, ...] = setting((), "Files or globs, in place of the split.")
    evaluation_files: tuple[str, ...] = setting((), "The same, to evaluate.")
    predict_files: tuple[str, ...] = setting((), "The same, to predict.")
    train_split: str = setting("paper_train", f"One of {', '.join(youtube8m.SPLITS)}.")
    evaluation_split: str = setting("paper_eval", "The same, to evaluate.")
    predict_split: str = setting("test", "The same, to predict.")
    synthetic_videos: int = setting(0, "Make up so many training videos; 0: real ones.")
    feature_names: tuple[str, ...] = setting(("rgb", "audio"), "Features of a frame.")
    feature_sizes: tuple[int, ...] = setting((1024, 128), "Numbers in each of them.")
    num_classes: int = setting(youtube8m.CLASSES, "Size of the vocabulary.")
    random_frames: int = setting(25, "Frames drawn of each video to train on.")
    max_frames: int = setting(youtube8m.MAX_FRAMES, "Frames taken at most to evaluate.")
    pad_frames: bool = setting(
        False, "Pad to that many frames always, as TPUs want it when they evaluate."
    )
    shuffle_buffer: int = setting(2048, "Records that training is shuffled in.")
    skip_bad_records: bool = setting(False, "Count and leave out what is damaged.")
    cluster: int = setting(4096, "DBoF: units of the cluster layer.")
    hidden: int = setting(4096, "DBoF: units of the hidden layer.")
    num_experts: int = setting(5, "DBoF: logistic experts of a class.")
    num_heads: int = setting(2, "DBoF: heads N of the multi-headed model.")
    head_hidden: int = setting(3000, "DBoF: hidden units of a head.")
    head_experts: int = setting(3, "DBoF: experts of a class in a head.")
    pooling: str = setting("swap", "DBoF: swap, average, max or attention.")
    second_gate: str = setting("hidden", "DBoF: hidden, scores (as the text) or none.")
    learning_rate: float = setting(0.005, "Of Adam at the start.")
    decay_rate: float = setting(0.95, "What it is multiplied by …")
    decay_examples: int = setting(1_500_000, "… after every so many examples.")
    clip_norm: float | None = setting(None, "Largest norm of all gradients together.")
    max_evaluation_videos: int | None = setting(
        None, "Room for so many in the exact metrics; TPUs need to know it before."
    )
    top_k: int = setting(20, "Predictions of a video that count for GAP and mAP.")

    def __post_init__(self):
        super().__post_init__()
        self.require_among(MODELS, "models")
        positive = ("num_classes", "random_frames", "max_frames", "cluster", "hidden")
        self.require_at_least(1, *positive, "num_experts", "num_heads", "head_hidden")
        self.require_at_least(1, "head_experts", "decay_examples", "top_k")
        self.require_at_least(0, "synthetic_videos", "shuffle_buffer")
        enough = self.synthetic_videos == 0 or self.synthetic_videos >= 8
        self.require("synthetic_videos", enough, "be 0 or at least 8")
        self.require("learning_rate", self.learning_rate > 0, "be above 0")
        self.require("decay_rate", 0 < self.decay_rate <= 1, "be in (0, 1]")
        fits = self.clip_norm is None or self.clip_norm > 0
        self.require("clip_norm", fits, "be above 0, or none")
        same = len(self.feature_names) == len(self.feature_sizes) >= 1
        self.require("feature_sizes", same, "have an entry for each of feature_names")
        splits = ("train_split", "evaluation_split", "predict_split")
        self.require_among(youtube8m.SPLITS, *splits)

    @property
    def features(self):
        return dict(zip(self.feature_names, self.feature_sizes, strict=True))


PAPER = Config(
    batch_size=512,
    evaluation_batch_size=128,
    steps=48_000,  # five times 4.9 million videos: the paper does not say how many
    log_every=100,
    checkpoint_every=1000,
    evaluate_every=6000,
)
PRESETS = {
    "paper": PAPER,
    "laptop": dataclasses.replace(
        PAPER,
        models=("dbof", "dbof_2heads"),
        batch_size=128,
        evaluation_batch_size=32,
        steps=20_000,
        evaluate_every=5000,
        cluster=1024,
        hidden=1024,
        num_experts=2,
        head_hidden=768,
        head_experts=1,
    ),
    "smoke": Config(
        models=("dbof", "dbof_2heads"),
        synthetic_videos=2000,
        feature_sizes=(24, 8),
        num_classes=300,
        max_frames=60,
        batch_size=64,
        evaluation_batch_size=64,
        steps=300,
        log_every=50,
        checkpoint_every=100,
        evaluate_every=150,
        cluster=64,
        hidden=64,
        num_experts=2,
        head_hidden=44,
        head_experts=1,
        shuffle_buffer=512,
    ),
}
