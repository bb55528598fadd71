"""Our learner in Avalanche: its benchmark, its loop, its metrics. `make test-avalanche` has it installed."""

from pathlib import Path

import numpy as np
import torch
from avalanche.benchmarks import nc_benchmark
from avalanche.benchmarks.utils import as_classification_dataset
from avalanche.evaluation.metrics import accuracy_metrics, bwt_metrics
from avalanche.logging import TextLogger
from avalanche.training.plugins import EvaluationPlugin

from experiments import datasets
from experiments.continual.avalanche import WageStrategy
from experiments.continual.learner import Learner
from experiments.continual.settings import Learning


def as_theirs(images: np.ndarray, labels: np.ndarray) -> object:
    """A data set of Avalanche: tensors of channels first, 0 to 1."""
    x = torch.tensor(np.moveaxis(images, -1, 1) / 255, dtype=torch.float32)
    data = torch.utils.data.TensorDataset(x, torch.tensor(labels))
    data.targets = labels.tolist()
    return as_classification_dataset(data)


def main() -> None:
    data = datasets.load("digits")
    parts = as_theirs(data.train_images, data.train_labels), as_theirs(data.test_images, data.test_labels)
    benchmark = nc_benchmark(*parts, n_experiences=5, task_labels=False, seed=0)

    settings = Learning(method="replay", memory=200, recalled=3, network="128FC", eta="4")
    learner = Learner.start(settings, (8, 8, 1), outputs=10, engine="numpy")
    with learner, Path("log.txt").open("w") as log:
        metrics = accuracy_metrics(stream=True), bwt_metrics(stream=True)
        evaluator = EvaluationPlugin(*metrics, loggers=[TextLogger(log)])
        strategy = WageStrategy(learner=learner, evaluator=evaluator, train_mb_size=50)
        for experience in benchmark.train_stream:
            strategy.train(experience)
            found = strategy.eval(benchmark.test_stream)
    accuracy = found["Top1_Acc_Stream/eval_phase/test_stream/Task000"]
    print(
        f"all digits, two classes after the others: {100 * accuracy:.1f} %, in log.txt as Avalanche says it"
    )


if __name__ == "__main__":
    main()
