"""Small statistics over lists of numbers."""


def mean(values):
    """The sum of the values divided by their number."""
    if not values:
        raise ValueError("mean of an empty list")
    return sum(values) / len(values)


def median(values):
    """The middle of the sorted values; of an even number of them, the mean of the middle two."""
    ordered = list(values)
    if not ordered:
        raise ValueError("median of an empty list")
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2
