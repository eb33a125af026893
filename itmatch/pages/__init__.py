"""Pictures of what a model does: explanations of one image and one caption, and reports of runs."""

from itmatch.pages.effects import RelationEffects, explain_relations
from itmatch.pages.explaining import explain
from itmatch.pages.explanation import Explanation, Relation
from itmatch.pages.page import page

__all__ = ["Explanation", "Relation", "RelationEffects", "explain", "explain_relations", "page"]
