"""Options of the task Ranking."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from springtide_api.schema import Decimal, Model, cel


@cel(
    "self.gains.all(l, double(self.gains[l]) >= 0.0)",
    "gains must not be negative; 0 is the gain of an irrelevant row",
)
@cel(
    "self.gains.exists(l, double(self.gains[l]) == 0.0)"
    " && self.gains.exists(l, double(self.gains[l]) > 0.0)",
    "gains needs a label with gain 0 (irrelevant) and one with a higher gain (relevant), such as"
    " {irrelevant: '0', exact: '3'}",
)
class RankingOptions(Model):
    """What relevance is, and how its order is learnt."""

    gains: Annotated[dict[str, Decimal], Field(max_length=64)]
    """Relevance of each label, spelled as in the data, such as {irrelevant: "0", partial: "1",
    exact: "3"}; rows with a gain greater than 0 are relevant. NDCG uses these numbers as they are
    (linear gain). Labels can be added, never removed."""
    loss: Literal["Pointwise", "Pairwise", "Listwise"] = "Listwise"
    """Loss of a group. Listwise: cross-entropy between the gains and the softmax of the scores of
    the group (ListNet). Pairwise: logistic loss of each pair of rows with different gains
    (RankNet). Pointwise: binary cross-entropy of each row, with its gain divided by the highest
    gain. Fine-tuned rankers are usually best with Listwise. Default Listwise."""
    max_group_rows: Annotated[int, Field(ge=2, le=4096)] = 128
    """Maximum number of rows of a group that is trained on; larger groups are refused, because a
    group is never split over forward passes. A forward pass has whole groups of at most this many
    rows together, so lower it to use less memory. Default 128."""
