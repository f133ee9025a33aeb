"""Which sites a selector means."""

from collections.abc import Mapping

from edgefleet.core.specs import Expression, Operator, Selector


def matches(selector: Selector, labels: Mapping[str, str]) -> bool:
    """Whether labels meet every requirement of a selector; an empty selector means every site."""
    for key, value in selector.match_labels.items():
        if labels.get(key) != value:
            return False
    return all(_meets(expression, labels) for expression in selector.match_expressions)


def _meets(expression: Expression, labels: Mapping[str, str]) -> bool:
    """As Kubernetes does: NotIn is met by a site without the label."""
    match expression.operator:
        case Operator.IN:
            return labels.get(expression.key) in expression.values
        case Operator.NOT_IN:
            return labels.get(expression.key) not in expression.values
        case Operator.EXISTS:
            return expression.key in labels
        case Operator.DOES_NOT_EXIST:
            return expression.key not in labels
