"""What a recipe minimises."""

from torch import Tensor, nn
from torch.nn import functional

from model_export.training.recipes import Recipe


class Loss(nn.Module):
    """Mean over images of the recipe's loss of logits [N, classes] against classes [N] or their shares [N, classes]."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.kind, self.smoothing = recipe.loss, recipe.label_smoothing

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Softmax cross-entropy, or the sum over classes of each one's sigmoid cross-entropy (big_vision's)."""
        if self.kind == "softmax":
            return functional.cross_entropy(logits, targets, label_smoothing=self.smoothing)
        classes = logits.shape[1]
        shares = targets if targets.ndim > 1 else functional.one_hot(targets, classes).to(logits.dtype)
        shares = shares * (1 - self.smoothing) + self.smoothing / classes
        return functional.binary_cross_entropy_with_logits(logits, shares, reduction="sum") / len(logits)
