"""A trained VAE out of its run folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file

from isthmus.engine.device import precision_here
from isthmus.engine.run_folder import RunFolder
from isthmus.errors import UserError, nearest_name
from isthmus.tasks import load_recipe
from isthmus.tasks.generate.module import vae_for
from isthmus.tasks.generate.recipe import GenerateRecipe
from isthmus.tasks.generate.vae_on_arrays import VAEOnArrays

NO_LABEL = "none"
"""The name of the unconditional label, unless a class has it."""


@dataclass(frozen=True)
class TrainedVAE:
    """A VAE with the names of its labels and the recipe that made it."""

    vae: VAEOnArrays
    class_names: tuple[str, ...]
    recipe: GenerateRecipe

    @property
    def knows_unconditional(self) -> bool:
        """Whether training has shown the unconditional label."""
        return self.recipe.model.label_dropout > 0

    def labels_named(self, names: tuple[str, ...]) -> list[int]:
        """The labels of these names; ``NO_LABEL`` names the unconditional label.

        Raises:
            UserError: If the model knows no such label.
        """
        known = self.class_names
        if self.knows_unconditional:
            known = (*known, NO_LABEL)
        unknown = next((name for name in names if name not in known), None)
        if unknown is not None:
            raise UserError(
                f"label {unknown}: this model has none of that name; {nearest_name(unknown, known)}"
            )
        return [known.index(name) for name in names]

    def label_to_encode_with(self) -> int:
        """The label that an image is encoded with where nobody said what it shows.

        Raises:
            UserError: If the encoder is told it.
        """
        model = self.recipe.model
        if model.encoder_is_conditioned:
            raise UserError(
                "--true is missing: the encoder of this model (model.condition_on = "
                f"{model.condition_on!r}) is told what an image shows; name its label"
            )
        return 0  # nothing hears it

    def label_to_redraw_with(self) -> int:
        """The label that an image is encoded and decoded with where nobody said what it shows.

        Raises:
            UserError: If the encoder is told it, or the model is and has never been without.
        """
        model = self.recipe.model
        unheard = self.label_to_encode_with()
        if self.knows_unconditional:
            return self.vae.network.unconditional_label
        if model.condition_on != "none" or model.prior != "standard":
            raise UserError(
                f"--true is missing: this model (model.condition_on = {model.condition_on!r}, model.prior = "
                f"{model.prior!r}) is told what an image shows and has never been without "
                "(model.label_dropout = 0); name its label"
            )
        return unheard


def load_vae(run: Path) -> TrainedVAE:
    """The VAE that a finished run has left in its folder.

    Raises:
        UserError: If the folder holds no weights, or those of another kind of network or version.
    """
    weights = RunFolder(run).weights
    if not weights.is_file():
        raise UserError(
            f"{run}: holds no {weights.name}: a model is the folder of a finished run; "
            "name one, such as studies/NAME/runs/VARIANT/seed-0"
        )
    with safe_open(weights, framework="pt") as file:
        about = file.metadata()
    recipe = load_recipe(about["recipe"])
    if not isinstance(recipe, GenerateRecipe):
        raise UserError(
            f'{run}: holds a network of task = "{recipe.task}", which draws no images; '
            'name a run of task = "generate"'
        )
    class_names = tuple(about["class_names"].split("\n"))
    network = vae_for(recipe, len(class_names))
    try:
        network.load_state_dict(load_file(weights))
    except RuntimeError as error:
        raise UserError(
            f"{weights}: these weights do not fit the network that their recipe builds now: another "
            "version of isthmus has written them; train the run again, or use that version"
        ) from error
    network.eval().requires_grad_(requires_grad=False)
    precision = precision_here(recipe.train.precision)
    return TrainedVAE(VAEOnArrays(network, precision), class_names, recipe)
