"""A classifier's weights in a checkpoint: the network alone, with its whole vocabulary, whatever is being trained."""

import logging
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from xner.errors import UserError
from xner.model.optimizer import decay_groups
from xner.model.vocabulary import CompactEmbedding, load_rows, save_rows

if TYPE_CHECKING:
    from xner.model.classifier import TokenClassifier

logger = logging.getLogger(__name__)


def keep(checkpoint: dict[str, Any], model: "TokenClassifier") -> None:
    """Leave the network alone in a checkpoint that is being saved.

    Args:
        checkpoint: A checkpoint of Lightning; it is changed in place.
        model: The classifier that it is of.
    """
    checkpoint["state_dict"] = {
        name: value for name, value in checkpoint["state_dict"].items() if name.startswith("network.")
    }
    rows = model.network.get_input_embeddings()
    if isinstance(rows, CompactEmbedding):
        save_rows(rows, _name(rows.weight, model), checkpoint)


def check_options(checkpoint: dict[str, Any], model: "TokenClassifier") -> None:
    """Hold a classifier's options against those of the checkpoint that it is about to load.

    Raises:
        UserError: If an option says one thing, and what the checkpoint restores another.
    """
    asked, saved = model.hparams, checkpoint.get(model.CHECKPOINT_HYPER_PARAMS_KEY, {})
    if saved and saved.get("lora") != asked["lora"]:
        raise UserError(f"ckpt_path was saved with model.lora={saved.get('lora')}, not {asked['lora']}")
    # Its optimizer has states of what was trained alone; for a test it does not matter.
    if saved and model.trainer.state.fn == "fit" and saved.get("freeze") != asked["freeze"]:
        raise UserError(
            f"model.freeze={asked['freeze']} is not that of ckpt_path, which was trained with {saved.get('freeze')}; "
            "use the same, or start from a model folder as --model.backbone"
        )
    backbone = saved.get("backbone", model.backbone_name)
    shapes = {f"network.{name}": value.shape for name, value in model.network.state_dict().items()}
    rows = model.network.get_input_embeddings()
    if isinstance(rows, CompactEmbedding):
        shapes[_name(rows.weight, model)] = rows.matrix.shape
    if shapes != {name: value.shape for name, value in checkpoint["state_dict"].items()}:
        raise UserError(
            f"ckpt_path holds a network of model.backbone={backbone!r}, which is not that of {model.backbone_name!r}"
        )
    if backbone != model.backbone_name and model.trainer.is_global_zero:
        logger.info(
            f"the weights are the checkpoint's, which started from model.backbone={backbone!r}: of "
            f"{model.backbone_name!r} the tokenizer alone is used"
        )
    for name in ("learning_rate", "weight_decay") if model.trainer.state.fn == "fit" else ():
        if saved.get(name, asked[name]) != asked[name]:
            raise UserError(
                f"model.{name}={asked[name]}, but ckpt_path goes on with its optimizer's {saved[name]}: "
                "give that, or start anew from a model folder as --model.backbone"
            )


def fit_to(checkpoint: dict[str, Any], model: "TokenClassifier") -> None:
    """Make the vocabulary of a checkpoint that is being loaded that of the network, whichever of them is compact.

    Args:
        checkpoint: A checkpoint of Lightning; it is changed in place.
        model: The classifier that is to load it.
    """
    rows = model.network.get_input_embeddings()
    groups = decay_groups(model.network, model.weight_decay)
    # A fit alone restores the optimizer, and only there are its states those of the parameters that this model trains.
    fits = model.trainer.state.fn == "fit"
    trained = [id(each) for group in groups for each in group["params"]] if fits else []
    place = trained.index(id(rows.weight)) if id(rows.weight) in trained else -1
    load_rows(rows, _name(rows.weight, model), place, checkpoint)


def _name(weight: Tensor | nn.Module, model: nn.Module) -> str:
    return next(name for name, parameter in model.named_parameters() if parameter is weight)
