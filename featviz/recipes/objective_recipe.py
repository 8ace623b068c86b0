"""The base of recipes that maximise the objective described by their fields, or an `Objective` given in Python."""

from typing import Any, ClassVar, TypeVar

from pydantic import PrivateAttr

from featviz.errors import FieldError, nearest, short
from featviz.networks.network import Network
from featviz.networks.table import INPUT, LOGITS, NETWORKS
from featviz.optimise.objectives import Objective
from featviz.recipes.maximise import check_objective, named_network
from featviz.recipes.recipe import Recipe, Rule

R = TypeVar("R", bound="ObjectiveRecipe")


class ObjectiveRecipe(Recipe):
    """The base of recipes that also accept an `Objective` in Python.

    An objective is code, not data, so it is not a field, and only Python has it. A file made with one records its text; the
    recipe cannot be run again from that file alone.
    """

    objective_rule: ClassVar[Rule]
    """The fields and pictures that have no effect beside an objective."""

    _objective: Objective | None = PrivateAttr(default=None)

    def __init__(self, /, objective: Objective | None = None, **fields: Any):
        """Create a recipe. `objective` replaces the objective of the fields; its addresses name the network.

        Raises:
            FieldError: `objective` is not an `Objective`, its network or a layer does not exist, or a field has no effect beside it.
            InputError: the objective names no network.
        """
        super().__init__(**fields)
        if objective is not None:
            _check(objective)
            self._objective = objective
            self.check_unused(None)

    @property
    def objective(self) -> Objective | None:
        """The objective that replaces the one of the fields; None if there is none."""
        return self._objective

    def replace(self: R, **changes: Any) -> R:
        """Return the recipe with new values for some fields, or another objective, validated as on construction.

        Raises:
            FieldError, InputError: as on construction.
        """
        return super().replace(**{"objective": self.objective, **changes})

    def check_unused(self, pictures: Any) -> None:
        """Raise FieldError if a field or picture is set that has no effect. `pictures`: as for `unused`."""
        super().check_unused(pictures)
        given = self._given(dict(self), pictures or ())
        if self.objective is not None and (unused := [name for name in self.objective_rule.unused if name in given]):
            raise FieldError(self.objective_rule.refusal(unused[0]))

    def check_network(self, network: Network) -> None:
        if self.objective is not None:
            check_objective(self.objective, network)

    def __repr_args__(self) -> Any:
        yield from super().__repr_args__()
        if self.objective is not None:
            yield "objective", self.objective


def _check(objective: object) -> None:
    """Check an objective against the table of networks."""
    if not isinstance(objective, Objective):
        raise FieldError(f"objective is {short(objective)}; expected an Objective, as in featviz.objectives.")
    name = named_network(objective)
    if name not in NETWORKS:
        raise FieldError(NETWORKS.missing_message(name))
    row = NETWORKS[name]
    accepted = [INPUT, *row.layers, *([LOGITS] if row.classifier is not None else [])]
    for layer in sorted(objective.layers):
        if layer not in accepted:
            raise FieldError(f"{row.title} has no layer '{short(layer)}'; {nearest(layer, accepted)}")
