"""Small statistics over lists of numbers."""


def mean(values):
    """The sum of the values divided by their number."""
    if not values:
        raise ValueError("mean of an empty list")
    return sum(values) / len(values)


def median(values):
    """The middle of the sorted values; of an even number of them, the mean of the middle two."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("median of an empty list")
    return ordered[(len(ordered) - 1) // 2]
